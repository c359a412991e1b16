"""``compress(recipe)`` gives an untrained or repaired build, ``train(recipe, fidelity)`` a trained
one: the torch part (``searcher.builders.prefixes``), exported, encoded and evaluated.
"""

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto
from torch import nn

from searcher.artifacts.complexity import Complexity
from searcher.artifacts.formats import registry as formats
from searcher.builders.evaluation import (
    Evaluation,
    Face,
    Wanted,
    batch_of,
    evaluate,
    score_outputs,
    targets_of,
)
from searcher.builders.prefixes import Prefixes, named_step
from searcher.builders.probe import probe_outputs
from searcher.builders.reference import reference_outputs
from searcher.builders.schedule import Schedule
from searcher.errors import BuildError
from searcher.spec.fidelity import UNTRAINED
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.base import Task
from searcher.tasks.metrics import registry as metrics
from searcher.tasks.outputs import file_outputs
from strategies import pipeline
from strategies.base import EncodingStrategy, StrategyError
from strategies.encoding.constraints import check_constraints
from strategies.encoding.export import Names, export_onnx
from strategies.encoding.finish import finish
from strategies.number_formats import FLOAT32
from strategies.target import Target
from strategies.tensor_trees import size_bytes
from strategies.weights.parametrizing import weight_scales


@dataclass(frozen=True)
class Build:
    """One exported file and what is known of it; ``number_format`` is what it computes with,
    ``probe_outputs`` the host's outputs for the probe input, ``evaluation`` that on the validation
    split (None where untrained). ``reused_steps`` of the recipe's steps came from the cache,
    ``built_steps`` were done now, which added ``cached_bytes`` to the cache."""

    key: str
    content: bytes
    graph_key: str
    probe_outputs: list[float]
    number_format: str
    report: Complexity
    evaluation: Evaluation | None
    built_steps: int
    reused_steps: int
    cached_bytes: int = 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class Builder:
    """Builds recipes of one task with one seed. Not thread-safe; several processes may share
    ``folder``."""

    def __init__(self, task: Task, seed: int, folder: Path) -> None:
        self.task, self.seed, self.folder = task, seed, folder
        self.prefixes = Prefixes(task, seed, folder)
        self.split = self.prefixes.split

    def compress(self, recipe: Recipe, target: Target, repair: bool = False) -> Build:
        """The recipe without its training steps, from the trained baseline. With ``repair`` its
        weights are repaired on calibration samples, and it is evaluated on validation."""
        return self._guarded(recipe, Schedule.of(UNTRAINED, repair), target)

    def train(self, recipe: Recipe, fidelity: str, target: Target, repair: bool = False,
              epochs: Mapping[str, int] | None = None) -> Build:
        """The recipe trained to ``short``, ``full`` or ``extended``, evaluated on validation.
        Training continues from repaired weights with ``repair``, and lasts ``epochs`` of each
        fidelity, where given, instead of the task's."""
        if fidelity not in self.task.epochs and fidelity not in (epochs or {}):
            known = ", ".join(self.task.epochs)
            raise BuildError(f"{self.task.name} gives no epochs for fidelity {fidelity!r}, only "
                             f"for {known}.", "unknown_fidelity")
        return self._guarded(recipe, Schedule.of(fidelity, repair, epochs), target)

    def model(self, recipe: Recipe, fidelity: str, repair: bool = False,
              epochs: Mapping[str, int] | None = None) -> nn.Module:
        """The torch module behind a build, parametrizations in place."""
        recipe = self.prefixes.canonical(recipe)
        return self._model(recipe, Schedule.of(fidelity, repair, epochs))

    def build_key(self, steps: Sequence[Step], fidelity: str, number_format: str = FLOAT32,
                  schedule: Schedule | None = None) -> str:
        """Identity of a build; see ``Prefixes.key``. ``schedule`` replaces a plain ``fidelity``."""
        return self.prefixes.key(self.prefixes.placed(steps), schedule or Schedule.of(fidelity),
                                 number_format)

    def evaluate(self, content: bytes | Path, split: str,
                 file_format: str = formats.DEFAULT) -> Evaluation:
        """The task's metric of a file on one of the task's splits, computed on this host."""
        return evaluate(content, self.task.samples(split), self.task.metric, self._face,
                        file_format, self._wanted(split))

    def score_outputs(self, outputs: Path, split: str) -> Evaluation:
        """The task's metric of outputs (a file of arrays) that were computed elsewhere. Raises
        BuildError."""
        return score_outputs(outputs, self.task.samples(split), self.task.metric, self._face,
                             self._wanted(split))

    @functools.cached_property
    def _face(self) -> Face:
        """The inputs and the judged output of the task's files."""
        sample = self.split.calibration(1)
        return Face(self.task.input_names, file_outputs(self.task, sample).judged,
                    batch_of(size_bytes(sample)))

    def _wanted(self, split: str) -> Wanted:
        """What the metric compares outputs with. The reference is the baseline's file for any
        device; it is exported when its outputs are first needed."""
        if metrics.named(self.task.metric).against == "targets":
            return targets_of
        try:
            return reference_outputs(
                lambda: finish(
                    self._exported(self.prefixes.baseline(), Target()), Target()).content,
                self.task.samples(split), split, self._face,
                self.folder / self.build_key((), "full"))
        except StrategyError as error:
            raise BuildError(f"The uncompressed model: {error}", error.reason) from error

    def _exported(self, model: nn.Module, target: Target) -> ModelProto:
        return export_onnx(model, self.split.calibration(1), target, weight_scales(model),
                           Names(self.task.input_names, self.task.outputs))

    def _model(self, recipe: Recipe, schedule: Schedule) -> nn.Module:
        number_format = pipeline.number_format(recipe.as_list())
        return self.prefixes.model(_torch_steps(recipe), schedule, number_format)

    def _guarded(self, recipe: Recipe, schedule: Schedule, target: Target) -> Build:
        prefixes = self.prefixes
        prefixes.built = prefixes.reused = prefixes.cache.written_bytes = 0
        try:
            pipeline.check(recipe.as_list())
            return self._build(prefixes.canonical(recipe), schedule, target)
        except StrategyError as error:
            raise BuildError(str(error), error.reason) from error

    def _build(self, recipe: Recipe, schedule: Schedule, target: Target) -> Build:
        model = self._model(recipe, schedule)
        file_format = formats.named(target.format)
        graph = self._exported(model, target)
        check_constraints(graph, model)
        exported = graph
        scratch = self.folder / "scratch" / str(os.getpid())
        scratch.mkdir(parents=True, exist_ok=True)
        first = len(_torch_steps(recipe))
        for number, step in enumerate(recipe.steps[first:], first + 1):
            strategy = pipeline.instantiate(step.as_dict())
            assert isinstance(strategy, EncodingStrategy), "pipeline.check has seen the order"
            with named_step(number, step):
                graph = strategy.encode(graph, self.split.calibration(), target, scratch)
            check_constraints(graph, model, exported)
            self.prefixes.built += 1
        encoded = finish(graph, target)
        content = file_format.from_onnx(encoded.content)
        judged = schedule.fidelity != UNTRAINED or not recipe.steps
        return Build(
            key=self.build_key(recipe.steps, schedule.fidelity, schedule=schedule),
            content=content,
            graph_key=encoded.graph_key, probe_outputs=probe_outputs(content, target.format),
            number_format=pipeline.number_format(recipe.as_list()),
            report=file_format.complexity(content),
            evaluation=(self.evaluate(content, "validation", target.format) if judged else None),
            built_steps=self.prefixes.built, reused_steps=self.prefixes.reused,
            cached_bytes=self.prefixes.cache.written_bytes,
        )


def _torch_steps(recipe: Recipe) -> tuple[Step, ...]:
    """The steps before encoding."""
    stages = [pipeline.instantiate(step.as_dict()).stage for step in recipe.steps]
    encoding = EncodingStrategy.stage
    return recipe.steps[: stages.index(encoding)] if encoding in stages else recipe.steps


def left_out(recipe: Recipe) -> list[str]:
    """The strategies of the steps that change the file only, not the torch module."""
    return [step.strategy for step in recipe.steps[len(_torch_steps(recipe)):]]
