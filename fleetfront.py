"""The public Python API: ``run`` a campaign, ``open`` what a folder's ledger knows, and ``Task``,
``Split`` and ``BaselineTraining`` for tasks of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searcher.results.front import Front
    from searcher.results.view import Reading
    from searcher.tasks.base import BaselineTraining, Split, Task

__all__ = ["BaselineTraining", "Split", "Task", "open", "run"]
_OF_TASKS = ("BaselineTraining", "Split", "Task")


def __getattr__(name: str) -> object:
    """The classes of tasks import torch, so they are imported when they are first used."""
    if name in _OF_TASKS:
        from searcher.tasks import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run(campaign: str | Path, directory: str | Path = "fleetfront-data") -> "Front":
    """Run or resume a campaign file to its end; ``as_document()`` of its front is front.json."""
    from searcher.local.run import run_campaign

    return run_campaign(Path(campaign), Path(directory))


def open(directory: str | Path = "fleetfront-data") -> "Reading":
    """A read-only view of a folder's ledger: ``campaigns()``, ``front(campaign)``."""
    from searcher.results.view import Reading

    return Reading(Path(directory))
