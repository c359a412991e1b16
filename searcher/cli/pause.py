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
    """Stop the search of CAMPAIGN until `resume`: queued jobs wait, running jobs end, front and
    results remain readable."""
    change(campaign, "paused", directory, url)
