"""``compress(recipe)`` gives an untrained build, ``train(recipe, fidelity)`` a trained one.

A recipe is built prefix by prefix, and each prefix is kept (``searcher.builders.prefix_cache``):
another recipe with the same prefix, a higher fidelity, or the same process after a kill continues
from there.
"""

import contextlib
import copy
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from onnx import ModelProto
from torch import Tensor, nn

from searcher.artifacts.complexity import Complexity
from searcher.artifacts.formats import registry as formats
from searcher.builders import baseline, compute_device
from searcher.builders.evaluation import (
    Evaluation,
    Face,
    Wanted,
    batch_of,
    evaluate,
    score_outputs,
    targets_of,
)
from searcher.builders.prefix_cache import PrefixCache
from searcher.builders.probe import probe_outputs
from searcher.builders.reference import reference_outputs
from searcher.errors import BuildError, FleetfrontError, TaskError
from searcher.spec.fidelity import TRAINED
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.base import Task
from searcher.tasks.metrics import registry as metrics
from searcher.tasks.outputs import file_outputs
from searcher.tasks.teacher import CachedTeacher
from searcher.tasks.training_data import TrainingSplit
from searcher.tasks.user_code import raised
from strategies import pipeline
from strategies.base import (
    EncodingStrategy,
    Fidelity,
    FidelityName,
    StrategyError,
    StructureStrategy,
    TrainingState,
    TrainingStrategy,
    WeightsStrategy,
)
from strategies.encoding.export import Names, export_onnx
from strategies.encoding.finish import finish
from strategies.layers import layers_of, select
from strategies.number_formats import FLOAT32, identity
from strategies.target import Target
from strategies.tensor_trees import size_bytes
from strategies.weights.parametrizing import weight_scales

FULL_SHARE = 0.25
"""Networks of less than this share of the baseline's operations are trained longer
(``Task.longest_full``): about as long as one of this share takes."""


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
        self._device = compute_device.resolved(task.device)
        self.split = TrainingSplit(task, seed, self._device)
        self._cache = PrefixCache(folder)
        self._teacher: CachedTeacher | None = None
        self._trained_baseline: nn.Module | None = None
        self._built = self._reused = 0

    def compress(self, recipe: Recipe, target: Target) -> Build:
        """The recipe without its training steps, from the trained baseline."""
        return self._guarded(recipe, "untrained", target)

    def train(self, recipe: Recipe, fidelity: str, target: Target) -> Build:
        """The recipe trained to ``short``, ``full`` or ``extended``, evaluated on validation."""
        if fidelity not in self.task.epochs:
            known = ", ".join(self.task.epochs)
            raise BuildError(f"{self.task.name} gives no epochs for fidelity {fidelity!r}, only "
                             f"for {known}.", "unknown_fidelity")
        return self._guarded(recipe, fidelity, target)

    def model(self, recipe: Recipe, fidelity: str) -> nn.Module:
        """The torch module behind a build, parametrizations in place."""
        number_format = pipeline.number_format(recipe.as_list())
        return self._prefix(_torch_steps(recipe), fidelity, number_format)

    def build_key(self, steps: Sequence[Step], fidelity: str,
                  number_format: str = FLOAT32) -> str:
        """Identity of a build: (task digest, recipe, seed, fidelity, strategy versions, number
        format for which weights are constrained)."""
        versions = [pipeline.instantiate(step.as_dict()).version for step in steps]
        document = [self.task.digest, [s.as_dict() for s in steps], self.seed, fidelity, versions]
        text = json.dumps([*document, identity(number_format)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:40]

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
                lambda: finish(self._exported(self._baseline(), Target()), Target()).content,
                self.task.samples(split), split, self._face,
                self.folder / self.build_key((), "full"))
        except StrategyError as error:
            raise BuildError(f"The uncompressed model: {error}", error.reason) from error

    def _exported(self, model: nn.Module, target: Target) -> ModelProto:
        return export_onnx(model, self.split.calibration(1), target, weight_scales(model),
                           Names(self.task.input_names, self.task.outputs))

    def _guarded(self, recipe: Recipe, fidelity: str, target: Target) -> Build:
        self._built = self._reused = self._cache.written_bytes = 0
        try:
            pipeline.check(recipe.as_list())
            return self._build(recipe, fidelity, target)
        except StrategyError as error:
            raise BuildError(str(error), error.reason) from error

    def _build(self, recipe: Recipe, fidelity: str, target: Target) -> Build:
        model = self.model(recipe, fidelity)
        file_format = formats.named(target.format)
        graph = self._exported(model, target)
        scratch = self.folder / "scratch" / str(os.getpid())
        scratch.mkdir(parents=True, exist_ok=True)
        first = len(_torch_steps(recipe))
        for number, step in enumerate(recipe.steps[first:], first + 1):
            strategy = pipeline.instantiate(step.as_dict())
            assert isinstance(strategy, EncodingStrategy), "pipeline.check has seen the order"
            with _named_step(number, step):
                graph = strategy.encode(graph, self.split.calibration(), target, scratch)
            self._built += 1
        encoded = finish(graph, target)
        content = file_format.from_onnx(encoded.content)
        trained = fidelity != "untrained" or not recipe.steps
        return Build(
            key=self.build_key(recipe.steps, fidelity), content=content,
            graph_key=encoded.graph_key, probe_outputs=probe_outputs(content, target.format),
            number_format=pipeline.number_format(recipe.as_list()),
            report=file_format.complexity(content),
            evaluation=(self.evaluate(content, "validation", target.format) if trained else None),
            built_steps=self._built, reused_steps=self._reused,
            cached_bytes=self._cache.written_bytes,
        )

    def _prefix(self, steps: Sequence[Step], fidelity: str, number_format: str) -> nn.Module:
        """The model after ``steps``; ``number_format`` is what the whole recipe's file has."""
        if not steps:
            return self._baseline()
        strategy = pipeline.instantiate(steps[-1].as_dict())
        before = steps[:-1]
        if isinstance(strategy, StructureStrategy):
            return self._structure(strategy, steps, fidelity, number_format)
        if isinstance(strategy, TrainingStrategy):
            if fidelity == "untrained":
                return self._prefix(before, fidelity, number_format)
            return self._trained(strategy, steps, fidelity, number_format)
        assert isinstance(strategy, WeightsStrategy), "encoding steps are no part of a prefix"
        model = self._prefix(before, fidelity, number_format)
        with _named_step(len(steps), steps[-1]):
            strategy.attach(model, select(layers_of(model), steps[-1].layers), number_format)
        self._built += 1
        return model

    def _structure(self, strategy: StructureStrategy, steps: Sequence[Step], fidelity: str,
                   number_format: str) -> nn.Module:
        level = fidelity if TrainingStrategy.stage in _stages(steps) else "untrained"
        key = self.build_key(steps, level)
        kept = self._cache.module(key)
        if kept is not None:
            self._reused += len(steps)
        else:
            model = self._prefix(steps[:-1], fidelity, number_format)
            torch.manual_seed(int(key[:8], 16))
            with _named_step(len(steps), steps[-1]):
                layers = select(layers_of(model), steps[-1].layers)
                kept = strategy.apply(model, layers, self.split.calibration(1))
            self._built += 1
            self._cache.keep_module(key, kept)
        return copy.deepcopy(kept)

    def _trained(self, strategy: TrainingStrategy, steps: Sequence[Step], fidelity: str,
                 number_format: str) -> nn.Module:
        constrained = number_format if WeightsStrategy.stage in _stages(steps) else FLOAT32
        key = self.build_key(steps, fidelity, constrained)
        model = self._prefix(steps[:-1], fidelity, number_format)
        if self._cache.restore(key, model) is not None:
            self._reused += 1
            return model
        short = self.build_key(steps, "short", constrained)
        first = TrainingStrategy.stage not in _stages(steps[:-1])
        state = None
        while first and fidelity != "short" and state is None:
            # It continues from the fidelity before, requested or not: one key, one result.
            before = TRAINED[TRAINED.index(fidelity) - 1]
            counted = self._built, self._reused
            self._trained(strategy, steps, before, number_format)
            self._built, self._reused = counted
            state = self._cache.restore(self.build_key(steps, before, constrained), model)
        reached = Fidelity(cast(FidelityName, fidelity), self._epochs(model, fidelity))
        teacher = self._teach()
        # Seeded last: a baseline that is only now loaded draws random numbers, too.
        torch.manual_seed(int(short[:8], 16))
        with _named_step(len(steps), steps[-1]), self._in_training():
            model, state = strategy.train(
                model.to(self._device), teacher, self.split, reached, state)
        model = model.cpu()
        self._cache.keep_state(key, model, self._on_host(state))
        self._built += 1
        return model

    def _epochs(self, model: nn.Module, fidelity: str) -> int:
        epochs, short = self.task.epochs[fidelity], self.task.epochs["short"]
        if fidelity == "short" or self.task.longest_full <= 1:
            return epochs
        share = self._operations(model) / self._operations(self._baseline())
        stretch = min(max(FULL_SHARE / share, 1.0), self.task.longest_full)
        return short + round((epochs - short) * stretch)

    def _operations(self, model: nn.Module) -> int:
        """Multiply-adds of convolutions and linear layers in one forward pass of one sample."""
        counted, training = 0, model.training

        def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
            nonlocal counted
            weight = cast(Tensor, layer.weight)
            counted += output.numel() // len(weight) * weight.numel()

        hooks = [layer.register_forward_hook(count) for layer in model.modules()
                 if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))]
        model.eval()  # one sample must leave no trace in the statistics of a BatchNorm
        with torch.no_grad():
            model(*self.split.calibration(1))
        model.train(training)
        for hook in hooks:
            hook.remove()
        return max(counted, 1)

    def _teach(self) -> CachedTeacher:
        if self._teacher is None:
            self._teacher = CachedTeacher(self._baseline().to(self._device), self.split)
        return self._teacher

    def _baseline(self) -> nn.Module:
        key = self.build_key((), "full")
        if self._trained_baseline is None:
            torch.manual_seed(self.seed)
            model, spec = self.task.module(), self.task.baseline
            baseline.look_at(model, self.split)
            if spec is not None and not self._restored(key, model):
                model, state = baseline.trained(model, self.task, spec, self.split, self._device)
                self._cache.keep_state(key, model, self._on_host(state))
            self._trained_baseline = model.eval()
        return copy.deepcopy(self._trained_baseline)

    def _restored(self, key: str, model: nn.Module) -> bool:
        try:
            return self._cache.restore(key, model) is not None
        except RuntimeError as error:
            raise TaskError("identity: a baseline with other layers was trained under the same "
                            "identity of the task. Change Task.identity with the model.") from error

    def _on_host(self, state: TrainingState) -> TrainingState:
        """What is stored can be loaded on any machine."""
        if self._device.type == "cpu":
            return state
        return cast(TrainingState, compute_device.on_host(state))

    @contextlib.contextmanager
    def _in_training(self) -> Iterator[None]:
        """What is raised in the training of a candidate is the task's error if the baseline's
        training raises, too, else the candidate's."""
        try:
            yield
        except (StrategyError, FleetfrontError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            batch = next(self.split.batches(0))
            baseline.look_at_step(self._baseline().to(self._device), batch, self.split)
            raise BuildError(f"Training raised {raised(error)}", "training") from error


@contextlib.contextmanager
def _named_step(number: int, step: Step) -> Iterator[None]:
    """What is raised inside says which step of the recipe raised it: a StrategyError in its text,
    any other exception in a note."""
    here = f"step {number} ({step.strategy} on {step.layers})"
    try:
        yield
    except StrategyError as error:
        raise StrategyError(f"{here}: {error}", error.reason) from error
    except Exception as error:
        error.add_note(here)
        raise


def _torch_steps(recipe: Recipe) -> tuple[Step, ...]:
    """The steps before encoding."""
    stages = [pipeline.instantiate(step.as_dict()).stage for step in recipe.steps]
    encoding = EncodingStrategy.stage
    return recipe.steps[: stages.index(encoding)] if encoding in stages else recipe.steps


def left_out(recipe: Recipe) -> list[str]:
    """The strategies of the steps that change the file only, not the torch module."""
    return [step.strategy for step in recipe.steps[len(_torch_steps(recipe)):]]


def _stages(steps: Sequence[Step]) -> set[str]:
    return {pipeline.instantiate(step.as_dict()).stage for step in steps}
