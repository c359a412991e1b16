"""``fleetfront ledger``: check, back up and shrink a ledger."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit, print_table
from searcher.results.formatting import bytes_text

app = typer.Typer(help="Check, back up and shrink the ledger of a folder.", no_args_is_help=True)


@app.command()
def check(
    directory: Directory = HERE,
    deep: Annotated[bool, typer.Option(
        "--deep", help="Also read every artifact and every stored sample.")] = False,
    format: OutputFormat = Format.table,
) -> None:
    """Migrate the ledger to this version and check file, tables, artifacts, jobs and counters.

    Exit code 1 when a check fails. While a coordinator serves the folder, nothing is written.
    """
    from searcher.ledger.maintenance import integrity

    report = integrity.check(directory, deep)
    rows = [asdict(finding) for finding in report.findings]
    if report.served:
        typer.echo(f"{directory} is in use by another process; the ledger was only read.", err=True)
    emit({"served": report.served, "findings": rows}, rows, format, lambda: print_table(
        f"ledger of {directory}", ("check", "state", "found", "what to do"),
        [[row["check"], row["state"], row["found"], row["mend"]] for row in rows]))
    if not report.is_whole:
        raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="Output file.")],
    directory: Directory = HERE,
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it exists.")] = False,
) -> None:
    """Copy the ledger to TARGET, also while a coordinator writes. TARGET is complete or absent."""
    from searcher.ledger.maintenance import backup

    made = backup.backup(directory, target, force)
    typer.echo(f"{made.path}: {bytes_text(made.size_bytes)}, schema version {made.version}, "
               f"{made.campaigns} campaigns, {made.trials} trials; opened and checked")


@app.command()
def vacuum(directory: Directory = HERE) -> None:
    """Rewrite the ledger without free pages. No coordinator may serve the folder."""
    from searcher.ledger.maintenance import backup

    before, after = backup.vacuum(directory)
    typer.echo(f"{directory / 'ledger.db'}: {before:,} bytes before, {after:,} bytes after")
