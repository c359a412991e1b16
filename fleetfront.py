"""The public Python API: ``run`` a campaign, ``open`` what a folder's ledger knows, ``load_torch``
the module of a build, and ``Task``, ``Split`` and ``BaselineTraining`` for tasks of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from searcher.results.front import Front
    from searcher.results.view import Reading
    from searcher.tasks.base import BaselineTraining, Split, Task

__all__ = ["BaselineTraining", "Split", "Task", "load_torch", "open", "run"]
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


def load_torch(folder: str | Path) -> "nn.Module":
    """The compressed torch module of a folder that ``fleetfront build`` wrote, in evaluation mode,
    on the CPU.

    It can be trained on: masks and codebooks are in force, as in the file. Steps of the recipe
    that change the file only, such as int8, are no part of it; ``figures.json`` lists them under
    ``torch_module``. Neither the task nor its data are needed, but the model's class must be
    importable. The file is a pickle: loading it runs code, so load only folders that you trust.
    Raises ``searcher.errors.UserError``.
    """
    from searcher.builders.torch_module import load

    return load(Path(folder))
