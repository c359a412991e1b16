"""What builders keep of the prefixes of recipes, so that they are not computed twice.

``folder/<build key>/structure.pt`` is the module after the last structure step of a prefix,
``state.pt`` the weights, parametrizations, optimizer and random state after a training step.
Several processes may share the folder. Any file may be deleted at any time: what is missing is
computed again, to the same bytes. A file's time of change says when it was last used.
"""

import contextlib
import os
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import nn

from strategies.base import TrainingState

MEMORY_PREFIXES = 16
"""Modules that are also kept in memory, the last used ones."""


class PrefixCache:
    """Not thread-safe. ``written_bytes`` counts what this process has added to the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written_bytes = 0
        self._modules: OrderedDict[str, nn.Module] = OrderedDict()

    def module(self, key: str) -> nn.Module | None:
        """The module kept under ``key``, shared: copy it before changing it. None if there is
        none."""
        found = self._modules.get(key)
        if found is None:
            found = _read_module(self.folder / key / "structure.pt")
        if found is not None:
            self._remember(key, found)
        return found

    def keep_module(self, key: str, module: nn.Module) -> None:
        """Keep ``module`` in memory and, where it can be pickled, in the folder; from then on it
        is shared. A user's module may hold a lambda or a class of a function."""
        with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):
            self.written_bytes += _write(self.folder / key / "structure.pt", module)
        self._remember(key, module)

    def restore(self, key: str, model: nn.Module) -> TrainingState | None:
        """Load the weights and parametrizations kept under ``key`` into ``model``; gives the
        training state, None if there is none."""
        saved = _read_state(self.folder / key / "state.pt")
        if saved is None:
            return None
        model.load_state_dict(saved["weights"])
        return saved["training"]

    def keep_state(self, key: str, model: nn.Module, state: TrainingState) -> None:
        """Keep what ``restore`` loads."""
        self.written_bytes += _write(
            self.folder / key / "state.pt", {"weights": model.state_dict(), "training": state})

    def _remember(self, key: str, module: nn.Module) -> None:
        self._modules[key] = module
        self._modules.move_to_end(key)
        if len(self._modules) > MEMORY_PREFIXES:
            self._modules.popitem(last=False)


def _write(file: Path, content: nn.Module | Mapping[str, object]) -> int:
    """``torch.save`` so that the file is whole or absent, whatever dies when; its bytes."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        with _opened(partial) as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
            size = stream.tell()
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return size


def _opened(file: Path) -> BinaryIO:
    """For writing, with its folder. Another process may delete an empty folder just then."""
    for _ in range(10):
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return file.open("wb")
    return file.open("wb")


def _read_module(file: Path) -> nn.Module | None:
    """A pickle, but one that this program wrote; only the owner of the folder may write there."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(file)
        with file.open("rb") as stream:
            module: nn.Module = torch.load(stream, weights_only=False)
            return module
    return None


def _read_state(file: Path) -> dict[str, TrainingState] | None:
    """Plain tensors and numbers: ``weights`` and ``training``."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(file)
        with file.open("rb") as stream:
            state: dict[str, TrainingState] = torch.load(stream, weights_only=True)
            return state
    return None
