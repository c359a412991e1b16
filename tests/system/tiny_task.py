"""A task that trains in a second: four kinds of stripes in 12x12 pictures."""

import functools
from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from searcher.tasks.base import BaselineTraining, Split, Task

SIZES = {"training": 480, "validation": 200, "test": 200}
SIDE = 12


def net() -> nn.Module:
    """Two convolutions and two fully connected layers, about 14,000 parameters."""
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


def make(name: str, model: functools.partial[nn.Module] | type[nn.Module] | object = net,
         load: object = stripes, loss: object = nn.functional.cross_entropy) -> Task:
    """The tiny task with some of it replaced."""
    return Task(
        name=name, model=model, load=load, loss=loss, augment=None,  # type: ignore[arg-type]
        identity={"pictures": "stripes 12x12, seed 7"}, epochs={"short": 1, "full": 2},
        batch_size=32, epoch_samples=480, augmented_epochs=2,
        baseline=BaselineTraining(learning_rate=5e-3, cycle_epochs=4, max_epochs=8,
                                  tolerance=0.01))


def task() -> Task:
    """``task = "tests.system.tiny_task:task"``."""
    return make("tiny-stripes")


def loss_of_float(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)
