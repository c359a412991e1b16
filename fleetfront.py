"""The public Python API: ``run`` a campaign, ``open`` what a folder's ledger knows."""

from pathlib import Path
from typing import Any


def run(campaign: str | Path, directory: str | Path = "fleetfront-data") -> dict[str, Any]:
    """Run or resume a campaign file to its end; the front as ``fleetfront front`` prints it."""
    from searcher.local.run import run_campaign

    return run_campaign(Path(campaign), Path(directory))


def open(directory: str | Path = "fleetfront-data") -> "Any":
    """A read-only view of a folder's ledger: ``campaigns()``, ``front(campaign)``."""
    from searcher.results.view import Reading

    return Reading(Path(directory))
