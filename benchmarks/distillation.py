"""Checks that the teacher's logits affect the loss and the weights of a distilled student."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.checks import Check, holds
from searcher.builders.builder import Builder
from searcher.spec.recipe import Recipe
from searcher.tasks.catalog import task as task_of
from searcher.tasks.teacher import CachedTeacher
from searcher.tasks.training_data import TrainingSplit
from strategies import pipeline
from strategies.base import Answer, Batch, Fidelity, Teacher
from strategies.training.knowledge_distillation import KnowledgeDistillation


class OneBatch:
    """``strategies.base.TrainingData`` of a single batch."""

    batches_per_epoch = 1

    answer: Answer = "classes"

    def __init__(self, batch: Batch, split: TrainingSplit) -> None:
        self._batch, self._split = batch, split

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        return self._split.loss(outputs, targets)

    def main_output(self, outputs: Any) -> Tensor:
        return self._split.main_output(outputs)

    def batches(self, epoch: int) -> Iterator[Batch]:
        yield self._batch

    def validation_metric(self, model: nn.Module) -> float:
        return 0.0


def teacher_reaches_loss(name: str, recipe: Recipe, task_name: str, builds: Path) -> list[Check]:
    """Compares the recipe's distillation with the baseline and with a teacher of zero logits: the
    loss on the first training batch of the untrained student, and the weights after one step."""
    distill = next(s for s in map(pipeline.instantiate, recipe.as_list())
                   if isinstance(s, KnowledgeDistillation))
    task = task_of(task_name)
    builder = Builder(task, 0, builds)
    student = builder.model(recipe, "untrained").eval()
    teacher = CachedTeacher(builder.model(Recipe(), "full"), builder.split)
    batch = next(iter(builder.split.batches(0)))

    def blank(requested: Batch) -> Tensor:
        return torch.zeros_like(teacher(requested))

    with torch.no_grad():
        outputs = student(*batch.inputs)
        alone = builder.split.loss(outputs, batch.targets)
        taught, untaught = (float(distill.loss(outputs, t(batch), alone)) for t in (teacher, blank))

    def step(chosen: Teacher) -> Tensor:
        trained, _ = distill.train(copy.deepcopy(student), chosen, OneBatch(batch, builder.split),
                                 Fidelity("short", 1), None)
        return torch.cat([p.detach().flatten() for p in trained.parameters()])

    apart = float((step(teacher) - step(blank)).abs().max())
    return [holds(f"{name}: loss on one batch", abs(taught - untaught) > 1e-3,
                  f"{taught:.4f} with the teacher, {untaught:.4f} with zero logits, "
                  f"{float(alone):.4f} without", "differ"),
            holds(f"{name}: weights after one step", apart > 0,
                  f"{apart:.1e} apart between the two teachers", "differ")]
