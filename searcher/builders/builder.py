"""``compress(recipe)`` gives an untrained build, ``train(recipe, fidelity)`` a trained one.

A recipe is built prefix by prefix, and each prefix is kept (``searcher.builders.prefix_cache``):
another recipe with the same prefix, a higher fidelity, or the same process after a kill continues
from there.
"""

import contextlib
import copy
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from searcher.artifacts.complexity import Complexity
from searcher.artifacts.formats import registry as formats
from searcher.artifacts.formats.base import Array
from searcher.builders.evaluation import Evaluation, evaluate, probe_outputs, score_outputs
from searcher.builders.prefix_cache import PrefixCache
from searcher.errors import BuildError
from searcher.spec.fidelity import TRAINED
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.base import Task
from searcher.tasks.training_data import CachedTeacher, TrainingSplit
from strategies import pipeline
from strategies.base import (
    EncodingStrategy,
    Fidelity,
    FidelityName,
    StrategyError,
    StructureStrategy,
    TrainingStrategy,
    WeightsStrategy,
)
from strategies.encoding.export import export_onnx
from strategies.encoding.finish import finish
from strategies.layers import layers_of, select
from strategies.number_formats import FLOAT32, identity
from strategies.target import Target
from strategies.training.loop import fit_until_plateau
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
        self.split = TrainingSplit(task, seed)
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
        inputs, targets = self._arrays(split)
        return evaluate(content, inputs, targets, self.task.metric, file_format)

    def score_outputs(self, outputs: Path, split: str) -> Evaluation:
        """The task's metric of outputs (.npy) that were computed elsewhere. Raises BuildError."""
        return score_outputs(outputs, self._arrays(split)[1], self.task.metric)

    def _arrays(self, split: str) -> tuple[Array, Array]:
        batches = list(self.task.samples(split).batches(500))
        return (np.concatenate([batch.inputs[0].numpy() for batch in batches]),
                np.concatenate([batch.targets.numpy() for batch in batches]))

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
        graph = export_onnx(model, self.split.calibration(1), target, weight_scales(model))
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
                kept = strategy.apply(model, layers, (self.split.calibration(1),))
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
        with _named_step(len(steps), steps[-1]):
            model, state = strategy.train(model, teacher, self.split, reached, state)
        self._cache.keep_state(key, model, state)
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
            self._teacher = CachedTeacher(self._baseline(), self.split)
        return self._teacher

    def _baseline(self) -> nn.Module:
        key = self.build_key((), "full")
        if self._trained_baseline is None:
            torch.manual_seed(self.seed)
            model, spec = self.task.module(), self.task.baseline
            if spec is not None and self._cache.restore(key, model) is None:
                model, state = fit_until_plateau(
                    model, self.split, learning_rate=spec.learning_rate,
                    cycle_epochs=spec.cycle_epochs, max_epochs=spec.max_epochs,
                    tolerance=spec.tolerance)
                self._cache.keep_state(key, model, state)
            self._trained_baseline = model.eval()
        return copy.deepcopy(self._trained_baseline)


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


def _stages(steps: Sequence[Step]) -> set[str]:
    return {pipeline.instantiate(step.as_dict()).stage for step in steps}
