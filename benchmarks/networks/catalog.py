"""The networks by name: a trained module, its three splits and how it is judged.

``lenet5`` is the project's own and comes untrained: the weights are those of a campaign.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks.networks import fashion, photographs
from benchmarks.networks.pretrained import pretrained

Data = Dataset[Any]
Int8 = Literal["static", "percentile", "dynamic"]


@dataclass(frozen=True)
class Network:
    """``splits`` has training, validation and test. ``labelled``: the target of a sample is its
    class; otherwise it is the number of its photograph, and answers are compared with those of the
    uncompressed network."""

    name: str
    module: Callable[[], nn.Module]
    splits: Callable[[], Mapping[str, Data]]
    input_shape: tuple[int, ...]
    labelled: bool = True
    int8: tuple[Int8, ...] = ("static",)
    """The forms of int8 that the plain script keeps. ``percentile`` is static with the ranges of
    activations by percentile instead of minimum and maximum; in ``dynamic`` the ranges are those of
    each call."""
    learning_rate: float = 2e-3
    """Of the plain script's distillation."""
    round_to: int = 8
    """Widths after pruning are multiples of this; less where layers are narrow."""


def _fashion(name: str, learning_rate: float = 2e-3, int8: tuple[Int8, ...] = ("static",)
             ) -> Network:
    return Network(name, functools.partial(pretrained, name), lambda: fashion.splits(),
                   (1, 28, 28), int8=int8, learning_rate=learning_rate)


def _lenet5_splits() -> Mapping[str, Data]:
    return {name: TensorDataset(torch.from_numpy(split.inputs), torch.from_numpy(split.targets))
            for name, split in lenet5_task().load().items()}


def lenet5_task() -> Any:
    from searcher.tasks.catalog import task

    return task("lenet5-mnist")


NETWORKS = {
    "lenet5": Network("lenet5", lambda: lenet5_task().model(), _lenet5_splits, (1, 28, 28),
                      round_to=4),
    "residual": _fashion("residual", 1e-2),
    "vgg": _fashion("vgg", 4e-3),
    "vision_transformer": _fashion("vision_transformer", int8=("static", "dynamic")),
    "mobilenet_v2": Network("mobilenet_v2", functools.partial(pretrained, "mobilenet_v2"),
                            photographs.splits, (3, 224, 224), labelled=False,
                            int8=("percentile",)),
}
