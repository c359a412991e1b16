"""``fleetfront pause``."""

from typing import Annotated

import typer

from searcher.cli.campaigns import change
from searcher.cli.options import HERE, Directory, Url


def command(
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Stop searching CAMPAIGN until `resume`: queued jobs wait, running ones end, front and
    results stay readable."""
    change(campaign, "paused", directory, url)
