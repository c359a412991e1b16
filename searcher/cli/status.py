"""``fleetfront status``: how far a campaign is."""

from typing import Annotated

import typer

from searcher.cli.campaigns import of_name, standings
from searcher.cli.options import HERE, Directory, Format, OutputFormat, Url, emit


def command(
    campaign: Annotated[str | None, typer.Argument(help="Needed when there are several.")] = None,
    directory: Directory = HERE,
    url: Url = None,
    format: OutputFormat = Format.table,
) -> None:
    """Print state, trials and time of CAMPAIGN."""
    from searcher.results.status import flat

    document = of_name(standings(directory, url), campaign, url or str(directory))
    row = flat(document)
    emit(document, [row], format, lambda: typer.echo(
        "\n".join(f"{key:12} {value if value is not None else '-'}" for key, value in row.items())))
