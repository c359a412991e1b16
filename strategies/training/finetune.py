"""Fine-tuning: train on with the task's own loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import nn

from strategies.base import (
    Fidelity,
    Layer,
    Limits,
    Suggester,
    Teacher,
    TrainingData,
    TrainingState,
    TrainingStrategy,
    within,
)
from strategies.training.loop import train_to


@dataclass(frozen=True)
class Finetune(TrainingStrategy):
    """AdamW with a cosine from ``learning_rate`` to zero."""

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "recovers accuracy with the task's own loss"
    paper: ClassVar[str] = "Han et al. 2015, Learning both Weights and Connections"
    limits_text: ClassVar[str] = "needs the task's training data"
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("model",)

    learning_rate: float

    def __post_init__(self) -> None:
        within(self.name, "learning_rate", self.learning_rate, 1e-8, 10.0)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.learning_rate", 1e-3, 1e-2)
        return cls(suggester.suggest_float("learning_rate", low, high, log=True))

    def train(self, model: nn.Module, teacher: Teacher | None, data: TrainingData,
              fidelity: Fidelity, state: TrainingState | None) -> tuple[nn.Module, TrainingState]:
        """See ``strategies.base.TrainingStrategy``."""
        return train_to(model, data, fidelity, state, self.learning_rate,
                        lambda batch, outputs: data.loss(outputs, batch.targets))
