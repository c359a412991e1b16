"""``fleetfront resume``."""

from typing import Annotated

import typer

from searcher.cli.campaigns import change
from searcher.cli.options import HERE, Directory, Url


def command(
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    directory: Directory = HERE,
    url: Url = None,
) -> None:
    """Continue a paused, failed or cancelled CAMPAIGN from where it stopped."""
    change(campaign, "queued", directory, url)
