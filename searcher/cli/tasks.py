"""``fleetfront tasks``: list the built-in tasks, and check a task."""

import contextlib
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from searcher.cli.options import Format, OutputFormat, emit, print_table

app = typer.Typer(help="List the built-in tasks, and check a task.", no_args_is_help=True)


@app.command(name="list")
def list_() -> None:
    """List the built-in tasks. A task of your own is named package.module:factory."""
    from searcher.tasks.builtin import TASKS

    for name in TASKS:
        typer.echo(name)


@app.command()
def check(
    task: Annotated[str, typer.Argument(help="A built-in task, or package.module:factory.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the model and of training.")] = 0,
    profile: Annotated[str, typer.Option(
        help="Device profile for which the model is exported.")] = "local_cpu",
    seconds: Annotated[float, typer.Option(
        min=1, help="Longest time to look at the samples of one split.")] = 15.0,
    format: OutputFormat = Format.table,
) -> None:
    """Look once at model, data, loss and metric of TASK, train one step and export the model.

    Exit code 1 when a row is an error.
    """
    from profiles import schema
    from searcher.builders.checks.check import check as checked
    from searcher.devices.target import target_of
    from searcher.documents import plain
    from searcher.errors import UserError

    try:
        target = target_of(schema.profile(profile))
    except schema.ProfileError as error:
        raise UserError(str(error)) from error
    # What the user's code prints must not end up in the document.
    with contextlib.redirect_stdout(sys.stderr):
        found = checked(task, seed, target, seconds)
    rows = [asdict(row) for row in found.rows]
    emit(plain(found), rows, format, lambda: print_table(
        f"task {task}", ("field", "found", "verdict", "what to do"),
        [[row.field, row.found, row.verdict, row.remedy] for row in found.rows], "left"))
    if found.facts is None:
        raise typer.Exit(1)
