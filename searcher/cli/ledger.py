"""``fleetfront ledger``: is it whole, a backup of it, its smallest size."""

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
    """Bring the ledger up to date and look over file, tables, artifacts, jobs and counters.

    Exit code 1 when something is wrong. While a coordinator serves the folder nothing is written.
    """
    from searcher.ledger.maintenance import integrity

    report = integrity.check(directory, deep)
    rows = [asdict(finding) for finding in report.findings]
    if report.served:
        typer.echo(f"{directory} is in use by another process: only read.", err=True)
    emit({"served": report.served, "findings": rows}, rows, format, lambda: print_table(
        f"ledger of {directory}", ("check", "state", "found", "what to do"),
        [[row["check"], row["state"], row["found"], row["mend"]] for row in rows]))
    if not report.is_whole:
        raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    directory: Directory = HERE,
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it exists.")] = False,
) -> None:
    """Copy the ledger to TARGET, whole or not at all, even while a coordinator writes."""
    from searcher.ledger.maintenance import backup

    made = backup.backup(directory, target, force)
    typer.echo(f"{made.path}: {bytes_text(made.size_bytes)}, schema version {made.version}, "
               f"{made.campaigns} campaigns, {made.trials} trials; opened and found whole")


@app.command()
def vacuum(directory: Directory = HERE) -> None:
    """Write the ledger anew without holes; needs a folder that nobody serves."""
    from searcher.ledger.maintenance import backup

    before, after = backup.vacuum(directory)
    typer.echo(f"{directory / 'ledger.db'}: {before:,} bytes before, {after:,} bytes after")
