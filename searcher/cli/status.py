"""``fleetfront status``: print the progress of a campaign."""

from typing import Annotated

import typer

from searcher.cli.campaigns import of_name, statuses
from searcher.cli.options import HERE, Directory, Format, OutputFormat, Url, emit


def command(
    campaign: Annotated[str | None, typer.Argument(help="Required if there are several.")] = None,
    directory: Directory = HERE,
    url: Url = None,
    format: OutputFormat = Format.table,
) -> None:
    """Print state, trials and time of CAMPAIGN."""
    status = of_name(statuses(directory, url), campaign, url or str(directory))
    row = status.as_row()
    emit(status.as_document(), [row], format, lambda: typer.echo(
        "\n".join(f"{key:12} {value if value is not None else '-'}" for key, value in row.items())))
