"""``fleetfront status``: how far a campaign is."""

import time
from typing import Annotated

import typer

from searcher.cli.options import HERE, Directory, Format, OutputFormat, emit


def command(
    campaign: Annotated[str | None, typer.Argument(help="Needed when there are several.")] = None,
    directory: Directory = HERE,
    format: OutputFormat = Format.table,
) -> None:
    """Print state, trials and time of CAMPAIGN."""
    from searcher.reading import Reading

    document = Reading(directory).status(campaign, time.time())
    row = {**document, **document["trials"]}
    row.pop("trials")
    emit(document, [row], format, lambda: typer.echo(
        "\n".join(f"{key:12} {value if value is not None else '-'}" for key, value in row.items())))
