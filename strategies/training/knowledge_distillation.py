"""Knowledge distillation: learn the baseline's outputs beside the targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from strategies.base import (
    Answer,
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
    """Loss = (1 - w) * task + w * distance, w = teacher_weight.

    The distance of logits is T^2 * KL(teacher / T || student / T), of the distributions over the
    classes, or of the two classes where there is one logit; that of numbers is the squared error
    in units of the teacher's variance (Chen et al. 2017, Learning Efficient Object Detection
    Models with Knowledge Distillation, section 3.3)."""

    name: ClassVar[str] = "knowledge_distillation"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "recovers accuracy by learning the baseline's outputs"
    paper: ClassVar[str] = "Hinton et al. 2015, Distilling the Knowledge in a Neural Network"
    limits_text: ClassVar[str] = "for outputs that are logits or numbers; needs training inputs"
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
        rate = limits.range(f"{cls.name}.learning_rate", 1e-3, 1e-2)
        temperature = limits.range(f"{cls.name}.temperature", 1.0, 8.0)
        weight = limits.range(f"{cls.name}.teacher_weight", 0.3, 0.95)
        return cls(suggester.suggest_float("learning_rate", *rate, log=True),
                   suggester.suggest_float("temperature", *temperature),
                   suggester.suggest_float("teacher_weight", *weight))

    def loss(self, outputs: Tensor, teacher_outputs: Tensor, task_loss: Tensor,
             answer: Answer = "classes") -> Tensor:
        """The blended loss of one batch of outputs: logits (n, classes, ...), one logit (n, ...)
        or (n, 1, ...), or numbers of any shape. Raises StrategyError(``unsupported_graph``) when
        the teacher's outputs have another shape."""
        if outputs.shape != teacher_outputs.shape:
            raise StrategyError(
                f"The outputs have shape {tuple(outputs.shape)}, those of the uncompressed model "
                f"{tuple(teacher_outputs.shape)}.", "unsupported_graph")
        one_column = outputs.dim() < 2 or outputs.shape[1] == 1
        if answer == "values":
            return (1 - self.teacher_weight) * task_loss + (
                self.teacher_weight * _scaled_error(outputs, teacher_outputs))
        divergence = _of_logit if answer == "logit" or one_column else _of_classes
        softened = divergence(outputs / self.temperature, teacher_outputs / self.temperature)
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
                             data.loss(outputs, batch.targets), data.answer)

        return train_to(model, data, fidelity, state, self.learning_rate, loss_of)


def _of_classes(outputs: Tensor, teacher_outputs: Tensor) -> Tensor:
    """KL(teacher || student) of logits (n, classes, ...), per sample and position."""
    found = nn.functional.kl_div(outputs.log_softmax(1), teacher_outputs.log_softmax(1),
                                 log_target=True, reduction="batchmean")
    return found if outputs.dim() == 2 else found / outputs.shape[2:].numel()


def _of_logit(outputs: Tensor, teacher_outputs: Tensor) -> Tensor:
    """KL(teacher || student) of one logit for two classes, the mean over all of them."""
    log = nn.functional.logsigmoid
    share = teacher_outputs.sigmoid()
    return (share * (log(teacher_outputs) - log(outputs))
            + (1 - share) * (log(-teacher_outputs) - log(-outputs))).mean()


def _scaled_error(outputs: Tensor, teacher_outputs: Tensor) -> Tensor:
    """The mean squared error divided by the variance of the teacher's numbers in the batch."""
    spread = teacher_outputs.var(correction=0) + 1e-6 * teacher_outputs.square().mean()
    return nn.functional.mse_loss(outputs, teacher_outputs) / spread.clamp(min=1e-12)
