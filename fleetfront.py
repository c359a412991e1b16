"""The public Python API: ``run`` a campaign, ``open`` what a folder's ledger knows."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searcher.results.front import Front
    from searcher.results.view import Reading


def run(campaign: str | Path, directory: str | Path = "fleetfront-data") -> "Front":
    """Run or resume a campaign file to its end; ``as_document()`` of its front is front.json."""
    from searcher.local.run import run_campaign

    return run_campaign(Path(campaign), Path(directory))


def open(directory: str | Path = "fleetfront-data") -> "Reading":
    """A read-only view of a folder's ledger: ``campaigns()``, ``front(campaign)``."""
    from searcher.results.view import Reading

    return Reading(Path(directory))
