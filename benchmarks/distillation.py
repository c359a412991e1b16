"""Whether the teacher's logits reach the loss of a distilling recipe."""

from pathlib import Path

import torch

from benchmarks.checks import Check, holds
from searcher.builder import Builder
from searcher.recipe import Recipe
from searcher.tasks.catalog import task as task_of
from searcher.tasks.training_split import CachedTeacher, TrainingSplit
from strategies import pipeline


def teacher_reaches_loss(name: str, recipe: Recipe, task_name: str, builds: Path) -> Check:
    """The loss of the recipe's distillation on the first training batch of the untrained student:
    with the baseline's logits, with another's (all equal), and without a teacher's part."""
    steps = recipe.as_list()
    distill = next(s for s in map(pipeline.instantiate, steps)
                   if s.name == "knowledge_distillation")
    task = task_of(task_name)
    builder = Builder(task, 0, builds)
    student = builder.model(recipe, "untrained").eval()
    teacher = CachedTeacher(builder.model(Recipe(), "full"))
    batch = next(iter(TrainingSplit(task, 0).batches(0)))
    outputs = student(batch.inputs)
    alone = task.loss(outputs, batch.targets)
    taught = distill.loss(outputs, teacher(batch), alone)
    untaught = distill.loss(outputs, torch.zeros_like(outputs), alone)
    gradient = torch.autograd.grad(taught, outputs, retain_graph=True)[0]
    plain = torch.autograd.grad((1 - distill.teacher_weight) * alone, outputs)[0]
    pull = float((gradient - plain).abs().max())
    reached = abs(float(taught - untaught)) > 1e-3 and pull > 1e-6
    return holds(f"{name}: loss on one batch", reached,
                 f"{float(taught.detach()):.4f} with the teacher, {float(untaught.detach()):.4f} "
                 f"with a blank one, {float(alone.detach()):.4f} without",
                 "differ, and so do the gradients")
