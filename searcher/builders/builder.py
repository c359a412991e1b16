"""``compress(recipe)`` gives an untrained build, ``train(recipe, fidelity)`` a trained one.

A recipe is built prefix by prefix. What a prefix leaves is kept in ``folder/<build key>/``: the
module after the last structure step of an untrained prefix, and weights, parametrizations,
optimizer and random state after each training step. Another recipe with the same prefix, a higher
fidelity, or the same process after a kill goes on from there. Any of it may be deleted at any
time, a file's time says when it was last used: what is missing is made again, to the same bytes.
"""

import contextlib
import copy
import dataclasses
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import onnx
import torch
from torch import Tensor, nn

from searcher.artifacts.onnx_complexity import complexity
from searcher.builders.evaluation import Evaluation, evaluate, judge, probe_outputs
from searcher.errors import BuildError
from searcher.spec.fidelity import TRAINED
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.base import Task
from searcher.tasks.training_data import CachedTeacher, TrainingSplit
from strategies import pipeline
from strategies.base import Fidelity, StrategyError, TrainingState
from strategies.encoding.export import export_onnx
from strategies.encoding.finish import finish
from strategies.layers import layers_of, select
from strategies.target import Target
from strategies.training.loop import fit_until_plateau
from strategies.weights.clustering import int8_weight_scales

MEMORY_PREFIXES = 16
FULL_SHARE = 0.25
"""Networks of less than this share of the baseline's operations are trained longer
(``Task.longest_full``): about as long as one of this share takes."""


@dataclass(frozen=True)
class Build:
    """One exported file and what is known of it; ``reused_steps`` of the recipe's steps came from
    the cache, ``built_steps`` were done now, which added ``cached_bytes`` to the cache."""

    key: str
    content: bytes
    graph_key: str
    probe_outputs: list[float]
    report: dict[str, Any]
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
        self._prefixes: OrderedDict[str, nn.Module] = OrderedDict()
        self._teacher: CachedTeacher | None = None
        self._trained_baseline: nn.Module | None = None
        self._built = self._reused = self._cached_bytes = 0

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
        steps = _torch_steps(recipe)
        int8 = any(step.strategy == "int8" for step in recipe.steps[len(steps):])
        return self._prefix(steps, fidelity, int8)

    def build_key(self, steps: Sequence[Step], fidelity: str, int8_follows: bool = False) -> str:
        """Identity of a build: (task digest, recipe, seed, fidelity, strategy versions)."""
        versions = [pipeline.instantiate(step.as_dict()).version for step in steps]
        document = [self.task.digest, [s.as_dict() for s in steps], self.seed, fidelity, versions]
        text = json.dumps([*document, int8_follows], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    def evaluate(self, content: bytes | Path, split: str) -> Evaluation:
        """Accuracy of a file on one of the task's splits."""
        part = self.task.load()[split]
        return evaluate(content, part.inputs, part.targets, self.task.metric)

    def judge(self, outputs: Path, split: str) -> Evaluation:
        """Accuracy by outputs (.npy) that were computed elsewhere. Raises BuildError."""
        return judge(outputs, self.task.load()[split].targets, self.task.metric)

    def _guarded(self, recipe: Recipe, fidelity: str, target: Target) -> Build:
        self._built = self._reused = self._cached_bytes = 0
        try:
            pipeline.check(recipe.as_list())
            return self._build(recipe, fidelity, target)
        except StrategyError as error:
            raise BuildError(str(error), error.reason) from error

    def _build(self, recipe: Recipe, fidelity: str, target: Target) -> Build:
        model = self.model(recipe, fidelity)
        graph = export_onnx(model, self.split.calibration(1), target, int8_weight_scales(model))
        scratch = self.folder / "scratch" / str(os.getpid())
        scratch.mkdir(parents=True, exist_ok=True)
        for step in recipe.steps[len(_torch_steps(recipe)):]:
            strategy: Any = pipeline.instantiate(step.as_dict())
            graph = strategy.encode(graph, self.split.calibration(), target, scratch)
            self._built += 1
        encoded = finish(graph, target)
        trained = fidelity != "untrained" or not recipe.steps
        return Build(
            key=self.build_key(recipe.steps, fidelity), content=encoded.content,
            graph_key=encoded.graph_key, probe_outputs=probe_outputs(encoded.content),
            report=dataclasses.asdict(complexity(onnx.load_model_from_string(encoded.content))),
            evaluation=self.evaluate(encoded.content, "validation") if trained else None,
            built_steps=self._built, reused_steps=self._reused,
            cached_bytes=self._cached_bytes,
        )

    def _prefix(self, steps: Sequence[Step], fidelity: str, int8: bool) -> nn.Module:
        """The model after ``steps``; ``int8`` says that an int8 encoding ends the recipe."""
        if not steps:
            return self._baseline()
        strategy: Any = pipeline.instantiate(steps[-1].as_dict())
        before = steps[:-1]
        if strategy.stage == "training":
            if fidelity == "untrained":
                return self._prefix(before, fidelity, int8)
            return self._trained(strategy, steps, fidelity, int8)
        if strategy.stage == "weights":
            model = self._prefix(before, fidelity, int8)
            strategy.attach(model, select(layers_of(model), steps[-1].layers), int8)
            self._built += 1
            return model
        return self._structure(strategy, steps, fidelity, int8)

    def _structure(self, strategy: Any, steps: Sequence[Step], fidelity: str,
                   int8: bool) -> nn.Module:
        level = fidelity if _stages(steps) & {"training"} else "untrained"
        key = self.build_key(steps, level)
        file = self.folder / key / "structure.pt"
        kept = self._prefixes.get(key)
        if kept is None:
            # A pickle, but of this folder's own making; its owner alone may write here.
            kept = _read(file, weights_only=False)
        if kept is not None:
            self._reused += len(steps)
        else:
            model = self._prefix(steps[:-1], fidelity, int8)
            torch.manual_seed(int(key[:8], 16))
            layers = select(layers_of(model), steps[-1].layers)
            kept = strategy.apply(model, layers, self.split.calibration(1))
            self._built += 1
            self._keep(file, kept)
        self._remember(key, kept)
        fresh: nn.Module = copy.deepcopy(kept)
        return fresh

    def _remember(self, key: str, model: nn.Module) -> None:
        self._prefixes[key] = model
        self._prefixes.move_to_end(key)
        if len(self._prefixes) > MEMORY_PREFIXES:
            self._prefixes.popitem(last=False)

    def _trained(self, strategy: Any, steps: Sequence[Step], fidelity: str,
                 int8: bool) -> nn.Module:
        constrained = int8 and "weights" in _stages(steps)
        folder = self.folder / self.build_key(steps, fidelity, constrained)
        model = self._prefix(steps[:-1], fidelity, int8)
        if _restore(model, folder) is not None:
            self._reused += 1
            return model
        short = self.build_key(steps, "short", constrained)
        first = "training" not in _stages(steps[:-1])
        state = None
        while first and fidelity != "short" and state is None:
            # It goes on from the fidelity before, asked for or not: one key, one result.
            before = TRAINED[TRAINED.index(fidelity) - 1]
            counted = self._built, self._reused
            self._trained(strategy, steps, before, int8)
            self._built, self._reused = counted
            state = _restore(model, self.folder / self.build_key(steps, before, constrained))
        reached = Fidelity(cast(Any, fidelity), self._epochs(model, fidelity))
        teacher = self._teach()
        # Seeded last: a baseline that is only now loaded draws random numbers, too.
        torch.manual_seed(int(short[:8], 16))
        trained: tuple[nn.Module, TrainingState] = strategy.train(
            model, teacher, self.split, reached, state)
        model, state = trained
        self._keep(folder / "state.pt", {"weights": model.state_dict(), "training": state})
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

        def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            nonlocal counted
            weight = cast(Tensor, layer.weight)
            counted += output.numel() // len(weight) * weight.numel()

        hooks = [layer.register_forward_hook(count) for layer in model.modules()
                 if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))]
        model.eval()  # one sample must leave no trace in the statistics of a BatchNorm
        with torch.no_grad():
            model(self.split.calibration(1))
        model.train(training)
        for hook in hooks:
            hook.remove()
        return max(counted, 1)

    def _keep(self, file: Path, content: Any) -> None:
        self._cached_bytes += _write(file, content)

    def _teach(self) -> CachedTeacher:
        if self._teacher is None:
            self._teacher = CachedTeacher(self._baseline())
        return self._teacher

    def _baseline(self) -> nn.Module:
        folder = self.folder / self.build_key((), "full")
        if self._trained_baseline is None:
            torch.manual_seed(self.seed)
            model = self.task.model()
            if _restore(model, folder) is None:
                spec = self.task.baseline
                model, state = fit_until_plateau(
                    model, self.split, learning_rate=spec.learning_rate,
                    cycle_epochs=spec.cycle_epochs, max_epochs=spec.max_epochs,
                    tolerance=spec.tolerance)
                self._keep(
                    folder / "state.pt", {"weights": model.state_dict(), "training": state})
            self._trained_baseline = model.eval()
        return copy.deepcopy(self._trained_baseline)


def _torch_steps(recipe: Recipe) -> tuple[Step, ...]:
    """The steps before encoding."""
    stages = [pipeline.instantiate(step.as_dict()).stage for step in recipe.steps]
    return recipe.steps[: stages.index("encoding")] if "encoding" in stages else recipe.steps


def _stages(steps: Sequence[Step]) -> set[str]:
    return {pipeline.instantiate(step.as_dict()).stage for step in steps}


def _write(file: Path, content: Any) -> int:
    """``torch.save`` so that the file is whole or absent, whatever dies when; its bytes."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        with _opened(partial) as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
            size = stream.tell()
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return size


def _opened(file: Path) -> BinaryIO:
    """For writing, its folder made. An empty folder may be deleted just then: once more."""
    for _ in range(10):
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return file.open("wb")
    return file.open("wb")


def _read(file: Path, weights_only: bool) -> Any:
    """What ``_write`` wrote; None when it is not there. It counts as used now."""
    try:
        os.utime(file)
        with file.open("rb") as stream:
            return torch.load(stream, weights_only=weights_only)
    except FileNotFoundError:
        return None


def _restore(model: nn.Module, folder: Path) -> TrainingState | None:
    """Load weights and parametrizations into ``model``; the training state, None if not there."""
    saved = _read(folder / "state.pt", weights_only=True)
    if saved is None:
        return None
    model.load_state_dict(saved["weights"])
    state: TrainingState = saved["training"]
    return state
