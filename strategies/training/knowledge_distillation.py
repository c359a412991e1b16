"""Knowledge distillation: learn the baseline's softened outputs beside the targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from strategies.base import (
    Batch,
    Fidelity,
    Layer,
    Limits,
    StrategyError,
    Suggester,
    Teacher,
    TrainingData,
    TrainingState,
    TrainingStrategy,
    within,
)
from strategies.training.loop import train_to


@dataclass(frozen=True)
class KnowledgeDistillation(TrainingStrategy):
    """Loss = (1 - w) * task + w * T^2 * KL(teacher / T || student / T), w = teacher_weight."""

    name: ClassVar[str] = "knowledge_distillation"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "recovers accuracy by learning the baseline's outputs"
    paper: ClassVar[str] = "Hinton et al. 2015, Distilling the Knowledge in a Neural Network"
    limits_text: ClassVar[str] = "for classification outputs (logits); needs training inputs"
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("model",)

    learning_rate: float
    temperature: float = 4.0
    teacher_weight: float = 0.7

    def __post_init__(self) -> None:
        within(self.name, "learning_rate", self.learning_rate, 1e-8, 10.0)
        within(self.name, "temperature", self.temperature, 0.1, 100.0)
        within(self.name, "teacher_weight", self.teacher_weight, 0.0, 1.0)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        rate = limits.range(f"{cls.name}.learning_rate", 6e-3, 3e-2)
        temperature = limits.range(f"{cls.name}.temperature", 1.0, 8.0)
        weight = limits.range(f"{cls.name}.teacher_weight", 0.3, 0.95)
        return cls(suggester.suggest_float("learning_rate", *rate, log=True),
                   suggester.suggest_float("temperature", *temperature),
                   suggester.suggest_float("teacher_weight", *weight))

    def loss(self, outputs: Tensor, teacher_outputs: Tensor, task_loss: Tensor) -> Tensor:
        """The blended loss of one batch of logits (n, classes)."""
        softened = nn.functional.kl_div(
            (outputs / self.temperature).log_softmax(1),
            (teacher_outputs / self.temperature).log_softmax(1),
            log_target=True, reduction="batchmean")
        return (1 - self.teacher_weight) * task_loss + (
            self.teacher_weight * self.temperature**2 * softened)

    def train(self, model: nn.Module, teacher: Teacher | None, data: TrainingData,
              fidelity: Fidelity, state: TrainingState | None) -> tuple[nn.Module, TrainingState]:
        """See ``strategies.base.TrainingStrategy``; StrategyError(``no_teacher``) without one."""
        if teacher is None:
            raise StrategyError("knowledge_distillation needs a teacher: the baseline's outputs.",
                                "no_teacher")

        def loss_of(batch: Batch, outputs: Any) -> Tensor:
            return self.loss(data.main_output(outputs), teacher(batch),
                             data.loss(outputs, batch.targets))

        return train_to(model, data, fidelity, state, self.learning_rate, loss_of)
