"""What builders keep of the prefixes of recipes, so that they are not computed twice.

``folder/<build key>/structure.pt`` is the module after the last structure step of a prefix with
the channels that it kept, ``weights.pt`` the repaired weights and parametrizations after its last
weights step, ``state.pt`` those after a training step with optimizer and random state.
Several processes may share the folder. Any file may be deleted at any time: what is missing is
computed again, to the same bytes. A file's time of change says when it was last used.
"""

import contextlib
import os
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from strategies.base import TrainingState

MEMORY_PREFIXES = 16
"""Modules that are also kept in memory, the last used ones."""


@dataclass(frozen=True)
class KeptModule:
    """``channels``: as ``strategies.base.Restructured.kept``, over all structure steps since the
    baseline or the last training."""

    module: nn.Module
    channels: Mapping[str, tuple[int, ...]]


class _Saved(TypedDict):
    weights: Mapping[str, Tensor]
    training: NotRequired[TrainingState]


class PrefixCache:
    """Not thread-safe. ``written_bytes`` counts what this process has added to the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written_bytes = 0
        self._modules: OrderedDict[str, KeptModule] = OrderedDict()

    def module(self, key: str) -> KeptModule | None:
        """The module kept under ``key``, shared: copy it before changing it. None if there is
        none."""
        found = self._modules.get(key)
        if found is None:
            found = _read_module(self.folder / key / "structure.pt")
        if found is not None:
            self._remember(key, found)
        return found

    def keep_module(self, key: str, kept: KeptModule) -> None:
        """Keep a module in memory and, where it can be pickled, in the folder; from then on it
        is shared. A user's module may hold a lambda or a class of a function."""
        with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):
            self.written_bytes += _write(
                self.folder / key / "structure.pt",
                {"module": kept.module, "channels": dict(kept.channels)})
        self._remember(key, kept)

    def restore_weights(self, key: str, model: nn.Module) -> bool:
        """Load the weights and parametrizations kept by ``keep_weights``; whether there are
        any."""
        saved = _read_state(self.folder / key / "weights.pt")
        if saved is not None:
            model.load_state_dict(saved["weights"])
        return saved is not None

    def keep_weights(self, key: str, model: nn.Module) -> None:
        """Keep what ``restore_weights`` loads."""
        self.written_bytes += _write(
            self.folder / key / "weights.pt", {"weights": model.state_dict()})

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

    def _remember(self, key: str, kept: KeptModule) -> None:
        self._modules[key] = kept
        self._modules.move_to_end(key)
        if len(self._modules) > MEMORY_PREFIXES:
            self._modules.popitem(last=False)


def _write(file: Path, content: Mapping[str, object]) -> int:
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


def _read_module(file: Path) -> KeptModule | None:
    """A pickle, but one that this program wrote; only the owner of the folder may write there."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(file)
        with file.open("rb") as stream:
            return KeptModule(**torch.load(stream, weights_only=False))
    return None


def _read_state(file: Path) -> _Saved | None:
    """Plain tensors and numbers: ``weights``, and ``training`` after a training."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(file)
        with file.open("rb") as stream:
            state: _Saved = torch.load(stream, weights_only=True)
            return state
    return None
