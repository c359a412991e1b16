"""The splits of a task: what a user may give, and the batches that a model gets."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

SPLITS = ("training", "validation", "test")


@dataclass(frozen=True)
class Split:
    """A split in memory: ``inputs`` is one array or tensor (n, ...) or, for models with several
    inputs, a tuple or a mapping of them; ``targets`` is an array, a tensor or a structure of them
    with n rows."""

    inputs: Any
    targets: Any


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """Consecutive samples of a split from number ``start`` on.

    ``inputs`` are (n, ...), one for each of ``Task.input_names`` in that order. ``targets`` is a
    tensor (n, ...) or the structure (mapping, tuple, list) of tensors that the data give; integers
    are int64, floating point numbers have the model's precision.
    """

    inputs: tuple[Tensor, ...]
    targets: Any
    start: int

    def __len__(self) -> int:
        return len(self.inputs[0])
