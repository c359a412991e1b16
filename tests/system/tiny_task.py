"""Tasks that train in a second: four kinds of stripes in 12x12 pictures, and what may go wrong.

The module is named in campaigns, such as ``task = "tests.system.tiny_task:task"``.
"""

import functools
import hashlib
import os
import signal
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from searcher.tasks.base import BaselineTraining, Split, Task
from searcher.tasks.datasets.pinned_files import HttpsAddress, LocalFile, PinnedFile

SIZES = {"training": 480, "validation": 200, "test": 200}
SIDE = 12


def net() -> nn.Module:
    """Two convolutions and two fully connected layers, about 10,000 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 3 * 3, 64), nn.ReLU(), nn.Linear(64, 4))


@functools.cache
def stripes() -> Mapping[str, Split]:
    """Stripes that lie, stand or lean either way, at a random phase, under noise."""
    draw = np.random.default_rng(7)
    count = sum(SIZES.values())
    kinds = np.arange(count) % 4
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    along = np.stack([rows, columns, rows + columns, rows - columns])[kinds]
    phase = draw.integers(0, 4, count)[:, None, None]
    pictures = ((along + phase) % 4 < 2) * 0.6 + draw.random((count, SIDE, SIDE)) * 0.4
    splits, start = {}, 0
    for name, size in SIZES.items():
        part = slice(start, start + size)
        splits[name] = Split(pictures[part, None].astype(np.float32), kinds[part].astype(np.int64))
        start += size
    return splits


def _task(name, model=net, load=stripes) -> Task:
    return Task(
        name=name, model=model, load=load, loss=nn.functional.cross_entropy, augment=None,
        identity={"pictures": "stripes 12x12, seed 7"}, epochs={"short": 1, "full": 2},
        batch_size=32, epoch_samples=480, augmented_epochs=2,
        baseline=BaselineTraining(learning_rate=5e-3, cycle_epochs=4, max_epochs=8,
                                  tolerance=0.01))


def task() -> Task:
    """All is well."""
    return _task("tiny-stripes")


class Hostile(nn.Module):
    """It refuses to run with a split fully connected layer; a split convolution kills the process;
    masked convolutions give a loss that is no number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.fc1 = nn.Linear(16 * 3 * 3, 64)
        self.fc2 = nn.Linear(64, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        if isinstance(self.conv2, nn.Sequential):
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(self.fc1, nn.Sequential):
            raise TypeError("fc1 is no nn.Linear")
        x = nn.functional.max_pool2d(self.conv1(pictures).relu(), 2)
        x = self.fc2(self.fc1(self.conv2(x).relu().flatten(1)).relu())
        masked = parametrize.is_parametrized(self.conv2, "weight") and any(
            type(part).__name__ == "MagnitudeMask" for part in self.conv2.parametrizations.weight)
        return x * float("nan") if masked and self.training else x


def hostile() -> Task:
    return _task("tiny-hostile", Hostile)


class NoGraph(nn.Module):
    """Trains, but an operator of it is in no ONNX opset."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(SIDE * SIDE, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.fc(pictures.flatten(1)).detach()) + self.fc(
            pictures.flatten(1))


def no_graph() -> Task:
    return _task("tiny-no-graph", NoGraph)


STRIPES = b"which stripes lie and which stand"
"""The content of the data file that ``uploaded`` needs."""


def uploaded() -> Task:
    """Nobody listens at the address of the data: it must be uploaded."""
    return _task("tiny-uploaded", load=functools.partial(
        _pinned, hashlib.sha256(STRIPES).hexdigest(),
        HttpsAddress("https://127.0.0.1:9/stripes.npz")))


def _pinned(sha256: str, source: HttpsAddress | LocalFile) -> Mapping[str, Split]:
    PinnedFile("stripes.npz", sha256, (source,)).obtain()
    return stripes()


def wrong_digest() -> Task:
    """The data file is there, and is another one than the task names."""
    return _task("tiny-wrong-digest", load=functools.partial(
        _pinned, "0" * 64, LocalFile(__file__)))


def unreachable() -> Task:
    """Nobody listens at the address of the data."""
    return _task("tiny-unreachable", load=functools.partial(
        _pinned, "1" * 64, HttpsAddress("https://127.0.0.1:9/stripes.npz")))
