"""A task: model, splits, loss and metric, and how long a candidate is trained."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

SPLITS = ("training", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Model inputs (n, *shape) float32 and integer targets (n,)."""

    inputs: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class BaselineTraining:
    """Cosine cycles, their ends averaged, until one of them raises the validation metric by less
    than ``tolerance``."""

    learning_rate: float = 2e-3
    cycle_epochs: int = 10
    max_epochs: int = 60
    tolerance: float = 0.001


@dataclass(frozen=True)
class Task:
    """What is compressed. ``load`` gives the three disjoint splits; ``identity`` holds everything
    that changes the task's results and is no field of this class, such as data digests.

    ``epochs`` counts from the start, for ``short``, ``full`` and, where candidates of the front
    are to be trained further, ``extended``. A network of few operations learns slower, and an
    epoch of it costs less: it gets up to ``longest_full`` times the epochs beyond the short ones.
    ``metric`` names one of ``searcher.tasks.metrics``."""

    name: str
    model: Callable[[], nn.Module]
    load: Callable[[], Mapping[str, Split]]
    loss: Callable[[Tensor, Tensor], Tensor]
    augment: Callable[[Tensor, int], Tensor] | None
    identity: Mapping[str, object]
    epochs: Mapping[str, int]
    metric: str = "accuracy"
    batch_size: int = 64
    epoch_samples: int = 3000
    augmented_epochs: int = 12
    longest_full: float = 1.0
    baseline: BaselineTraining = field(default_factory=BaselineTraining)

    @property
    def digest(self) -> str:
        """sha256 over everything that a build of this task depends on, code apart."""
        document = [self.name, dict(self.identity), dict(self.epochs), self.metric,
                    self.batch_size, self.epoch_samples, self.augmented_epochs,
                    self.longest_full, repr(self.baseline)]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
