"""The torch part of recipes: the module after each prefix, computed once.

    baseline -> BatchNorm folded -> structure, repaired -> weights constrained, repaired -> trained

A prefix is kept (``searcher.builders.prefix_cache``): another recipe with the same prefix, a higher
fidelity, or the same process after a kill continues from there.
"""

import contextlib
import copy
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from searcher.builders import baseline, compute_device
from searcher.builders.prefix_cache import KeptModule, PrefixCache
from searcher.builders.schedule import Schedule
from searcher.errors import BuildError, FleetfrontError, TaskError
from searcher.spec.fidelity import TRAINED
from searcher.spec.recipe import Recipe, Step
from searcher.tasks.base import Task
from searcher.tasks.teacher import CachedTeacher
from searcher.tasks.training_data import TrainingSplit
from searcher.tasks.user_code import raised
from strategies import pipeline
from strategies.base import (
    Fidelity,
    FidelityName,
    Layer,
    Stage,
    Strategy,
    StrategyError,
    StructureStrategy,
    TrainingState,
    TrainingStrategy,
    WeightsStrategy,
    within_layers,
)
from strategies.canonical import canonical, decided
from strategies.layers import layers_of, select, weighted
from strategies.number_formats import FLOAT32, identity
from strategies.repair.batchnorm import fold_batchnorm
from strategies.repair.least_squares import composed, repair_structure
from strategies.repair.weights import SAMPLES, repair_weights

FULL_SHARE = 0.25
"""Networks of less than this share of the baseline's operations are trained longer
(``Task.longest_full``): about as long as one of this share takes."""


@dataclass(frozen=True)
class PlacedStep:
    """A torch step, number ``number`` of its recipe. ``layers`` are those of the baseline that it
    decides, None where they are known only at its place; ``narrowed`` says that other steps
    decide some of its own."""

    number: int
    step: Step
    strategy: Strategy
    layers: tuple[str, ...] | None
    narrowed: bool

    def document(self) -> dict[str, object]:
        """What a build key holds of the step."""
        return {**self.step.as_dict(), **({"decides": self.layers} if self.narrowed else {})}


Placed = tuple[PlacedStep, ...]


class Prefixes:
    """Modules of one task with one seed. Not thread-safe; several processes may share ``folder``.
    ``built`` and ``reused`` count steps."""

    def __init__(self, task: Task, seed: int, folder: Path) -> None:
        self.task, self.seed = task, seed
        self._device = compute_device.resolved(task.device)
        self.split = TrainingSplit(task, seed, self._device)
        self.cache = PrefixCache(folder)
        self.built = self.reused = 0
        self._teacher: CachedTeacher | None = None
        self._trained_baseline: nn.Module | None = None

    def canonical(self, recipe: Recipe) -> Recipe:
        """The recipe without steps that change nothing; as it is when no other compression is
        left, so that its own steps say why they cannot be applied. Raises StrategyError."""
        found = Recipe.from_list(canonical(recipe.as_list(), self.layers))
        return found if _compresses(found) else recipe

    def placed(self, steps: Sequence[Step]) -> Placed:
        """The torch steps of a recipe with the layers that each decides."""
        documents = [step.as_dict() for step in steps]
        layers = self.layers if steps else ()
        return tuple(
            PlacedStep(number, step, pipeline.instantiate(document), own,
                       own is not None and own != decided([document], layers)[0])
            for number, (step, document, own) in enumerate(
                zip(steps, documents, decided(documents, layers), strict=True), 1))

    def model(self, steps: Sequence[Step], schedule: Schedule, number_format: str) -> nn.Module:
        """The module after ``steps``, parametrizations in place; ``number_format`` is what the
        whole recipe's file has."""
        return self._prefix(self.placed(steps), schedule, number_format) if steps else (
            self.baseline())

    def key(self, steps: Placed, schedule: Schedule, number_format: str = FLOAT32) -> str:
        """Identity of a build: (task digest, recipe, seed, schedule, strategy versions, number
        format for which weights are constrained)."""
        document: list[object] = [
            self.task.digest, [placed.document() for placed in steps], self.seed,
            schedule.fidelity, [placed.strategy.version for placed in steps],
            identity(number_format), *schedule.document()]
        if steps and self._normalized:
            document.append("batchnorm folded")
        text = json.dumps(document, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Those of the baseline in order of execution."""
        return layers_of(self._folded, self.split.calibration(1))

    @functools.cached_property
    def calibration(self) -> tuple[Tensor, ...]:
        """The unlabelled samples on which weights are repaired."""
        return self.split.calibration(SAMPLES)

    def folded(self) -> nn.Module:
        """The baseline with BatchNorm folded; a copy."""
        return copy.deepcopy(self._folded)

    @functools.cached_property
    def _folded(self) -> nn.Module:
        return fold_batchnorm(self.baseline(), self.split.calibration(1))

    @functools.cached_property
    def _normalized(self) -> bool:
        return any(isinstance(module, _BatchNorm) for module in self.task.module().modules())

    def _prefix(self, steps: Placed, schedule: Schedule, number_format: str) -> nn.Module:
        if not steps:
            return self.folded()
        strategy = steps[-1].strategy
        if isinstance(strategy, StructureStrategy):
            return copy.deepcopy(self._structure(steps, schedule, number_format).module)
        if isinstance(strategy, TrainingStrategy):
            if not schedule.trains:
                return self._prefix(steps[:-1], schedule, number_format)
            return self._trained(strategy, steps, schedule, number_format)
        assert isinstance(strategy, WeightsStrategy), "encoding steps are no part of a prefix"
        return self._constrained(steps, schedule, number_format)

    def _structure(self, steps: Placed, schedule: Schedule, number_format: str) -> KeptModule:
        """Shared with the cache: copy it before changing it."""
        level = schedule if _has(steps, TrainingStrategy.stage) else schedule.without_training
        key = self.key(steps, level)
        kept = self.cache.module(key)
        if kept is not None:
            self.reused += len(steps)
            return kept
        strategy = steps[-1].strategy
        assert isinstance(strategy, StructureStrategy)
        before = self._before(steps[:-1], schedule, number_format)
        torch.manual_seed(int(key[:8], 16))
        with _named_step(steps[-1]):
            try:
                found = strategy.restructure(copy.deepcopy(before.module),
                                             _targets(before.module, steps[-1]),
                                             self.split.calibration(1))
            except StrategyError as error:
                if error.reason != "nothing_to_do" or not _has(steps[:-1], strategy.stage):
                    raise
                return before  # steps before made the layers so small
            channels = composed(before.channels, found)
            model = found.model
            if schedule.repair:
                teacher = self._dense(steps[:-1], schedule, number_format)
                model = repair_structure(model, teacher, channels, self.calibration)
        self.built += 1
        kept = KeptModule(model, channels)
        self.cache.keep_module(key, kept)
        return kept

    def _before(self, steps: Placed, schedule: Schedule, number_format: str) -> KeptModule:
        """What a structure step starts from; shared."""
        done = _effective(steps, schedule)
        if done and isinstance(done[-1].strategy, StructureStrategy):
            return self._structure(done, schedule, number_format)
        return KeptModule(self._prefix(done, schedule, number_format), {})

    def _dense(self, steps: Placed, schedule: Schedule, number_format: str) -> nn.Module:
        """The model whose outputs a repair aims at: that of the last training, else the
        baseline."""
        done = _effective(steps, schedule)
        while done and isinstance(done[-1].strategy, StructureStrategy):
            done = done[:-1]
        return self._prefix(done, schedule, number_format)

    def _constrained(self, steps: Placed, schedule: Schedule, number_format: str) -> nn.Module:
        first = len(steps)
        while first and isinstance(steps[first - 1].strategy, WeightsStrategy):
            first -= 1
        model = self._prefix(steps[:first], schedule, number_format)
        for placed in steps[first:]:
            strategy = placed.strategy
            assert isinstance(strategy, WeightsStrategy)
            with _named_step(placed):
                strategy.attach(model, _targets(model, placed), number_format)
        level = schedule if _has(steps, TrainingStrategy.stage) else schedule.without_training
        key = self.key(steps, level, number_format)
        if schedule.repair and self.cache.restore_weights(key, model):
            self.reused += len(steps) - first
            return model
        if schedule.repair:
            with _named_step(steps[-1]):
                repair_weights(model, self.calibration)
            self.cache.keep_weights(key, model)
        self.built += len(steps) - first
        return model

    def _trained(self, strategy: TrainingStrategy, steps: Placed, schedule: Schedule,
                 number_format: str) -> nn.Module:
        constrained = number_format if _has(steps, WeightsStrategy.stage) else FLOAT32
        key = self.key(steps, schedule, constrained)
        model = self._prefix(steps[:-1], schedule, number_format)
        if self.cache.restore(key, model) is not None:
            self.reused += 1
            return model
        short = self.key(steps, schedule.at("short"), constrained)
        first = not _has(steps[:-1], TrainingStrategy.stage)
        state = None
        while first and schedule.fidelity != "short" and state is None:
            # It continues from the fidelity before, requested or not: one key, one result.
            before = schedule.at(TRAINED[TRAINED.index(schedule.fidelity) - 1])
            counted = self.built, self.reused
            self._trained(strategy, steps, before, number_format)
            self.built, self.reused = counted
            state = self.cache.restore(self.key(steps, before, constrained), model)
        reached = Fidelity(cast(FidelityName, schedule.fidelity), self._epochs(model, schedule))
        teacher = self._teach()
        # Seeded last: a baseline that is only now loaded draws random numbers, too.
        torch.manual_seed(int(short[:8], 16))
        with _named_step(steps[-1]), self._in_training():
            model, state = strategy.train(
                model.to(self._device), teacher, self.split, reached, state)
        model = model.cpu()
        self.cache.keep_state(key, model, self._on_host(state))
        self.built += 1
        return model

    def _epochs(self, model: nn.Module, schedule: Schedule) -> int:
        given = dict(schedule.epochs)
        if schedule.fidelity in given:
            return given[schedule.fidelity]
        epochs, short = self.task.epochs[schedule.fidelity], self.task.epochs["short"]
        if schedule.fidelity == "short" or self.task.longest_full <= 1:
            return epochs
        share = self.operations(model) / self.operations(self.baseline())
        stretch = min(max(FULL_SHARE / share, 1.0), self.task.longest_full)
        return short + round((epochs - short) * stretch)

    def operations(self, model: nn.Module) -> int:
        """Multiply-adds of convolutions and linear layers in one forward pass of one sample."""
        return max(sum(self.operations_of(model).values()), 1)

    def operations_of(self, model: nn.Module) -> dict[str, int]:
        """The same by layer."""
        counted, training = dict[str, int](), model.training

        def counting(name: str) -> Callable[[nn.Module, object, Tensor], None]:
            def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
                weight = cast(Tensor, layer.weight)
                counted[name] = counted.get(name, 0) + (
                    output.numel() // len(weight) * weight.numel())
            return count

        hooks = [layer.register_forward_hook(counting(name))
                 for name, layer in model.named_modules()
                 if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))]
        model.eval()  # one sample must leave no trace in the statistics of a BatchNorm
        with torch.no_grad():
            model(*self.split.calibration(1))
        model.train(training)
        for hook in hooks:
            hook.remove()
        return counted

    def _teach(self) -> CachedTeacher:
        if self._teacher is None:
            self._teacher = CachedTeacher(self.baseline().to(self._device), self.split)
        return self._teacher

    def baseline(self) -> nn.Module:
        """The user's model, trained where the task says so; a copy."""
        key = self.key((), Schedule("full"))
        if self._trained_baseline is None:
            torch.manual_seed(self.seed)
            model, spec = self.task.module(), self.task.baseline
            baseline.look_at(model, self.split)
            if spec is not None and not self._restored(key, model):
                model, state = baseline.trained(model, self.task, spec, self.split, self._device)
                self.cache.keep_state(key, model, self._on_host(state))
            self._trained_baseline = model.eval()
        return copy.deepcopy(self._trained_baseline)

    def _restored(self, key: str, model: nn.Module) -> bool:
        try:
            return self.cache.restore(key, model) is not None
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
            baseline.look_at_step(self.baseline().to(self._device), batch, self.split)
            raise BuildError(f"Training raised {raised(error)}", "training") from error


def _targets(model: nn.Module, placed: PlacedStep) -> list[str]:
    """The layers of ``model`` that a step changes, those that stand in the place of its own among
    them. Raises StrategyError(``unknown_layers``)."""
    if placed.layers == ():
        raise StrategyError(f"No layer is in group {placed.step.layers!r}, or other steps decide "
                            "all of them.", "nothing_to_do")
    names = weighted(model)
    wanted = placed.layers if placed.layers is not None else placed.strategy.tabled_layers
    if wanted is None:
        return select(layers_of(model), placed.step.layers)
    found = [name for name in names if within_layers(name, wanted) is not None]
    missing = sorted(set(wanted) - {within_layers(name, wanted) for name in found})
    if missing:
        raise StrategyError(f"There is no layer {', '.join(missing)}. Known: {', '.join(names)}.",
                            "unknown_layers")
    return found


def _effective(steps: Placed, schedule: Schedule) -> Placed:
    """Without the trainings at the end that the schedule leaves out."""
    while steps and not schedule.trains and isinstance(steps[-1].strategy, TrainingStrategy):
        steps = steps[:-1]
    return steps


@contextlib.contextmanager
def _named_step(placed: PlacedStep) -> Iterator[None]:
    with named_step(placed.number, placed.step):
        yield


@contextlib.contextmanager
def named_step(number: int, step: Step) -> Iterator[None]:
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


def _has(steps: Placed, stage: Stage) -> bool:
    return any(placed.strategy.stage == stage for placed in steps)


def _compresses(recipe: Recipe) -> bool:
    return any(not isinstance(pipeline.instantiate(step.as_dict()), TrainingStrategy)
               for step in recipe.steps)
