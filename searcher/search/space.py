"""The search space: which steps a recipe may combine, and the ranges of their parameters.

Parameters are named ``<group>.<strategy>.on`` and ``<group>.<strategy>.<parameter>``.
"""

import functools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from searcher.errors import UserError, nearest
from searcher.search.recipes.offers import NARROW, PARTS, Offer, WhyNot, offers
from searcher.search.recipes.ranges import Range, ranges_of
from searcher.search.recipes.tables import (
    MOST_LEVELS,
    Scans,
    layers_with_numbers,
    resolved,
    scanned_parameter,
)
from searcher.spec.campaign import Campaign
from searcher.spec.recipe import Recipe, Step, Value
from strategies.base import Layer, Limits, Strategy
from strategies.canonical import canonical
from strategies.catalog import all_strategies

STAGES = ("structure", "weights", "training", "encoding")
WHOLE_MODEL_FRACTION, STRUCTURE_ONLY_FRACTION = 0.5, 0.5
"""Fractions of startup recipes with one strategy for the whole model, and with structural
compression only."""


class AskedTrial(Protocol):
    """The methods of ``optuna.Trial`` that the space uses."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[bool]) -> bool: ...


class ScopedSuggester:
    """A ``strategies.base.Suggester`` that adds a prefix to every name."""

    def __init__(self, trial: AskedTrial, prefix: str) -> None:
        self._trial, self._prefix = trial, prefix

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self._trial.suggest_float(self._prefix + name, low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self._trial.suggest_int(self._prefix + name, low, high, log=log)


@dataclass(frozen=True)
class Space:
    """The searched steps; ``choices`` are pairs of group and strategy class in the order of
    stages. ``notes`` say which strategies are left out and why."""

    choices: tuple[Offer, ...]
    trainings: tuple[type[Strategy], ...]
    layers: tuple[Layer, ...]
    limits: Limits
    notes: tuple[str, ...] = ()
    scans: Scans = field(default_factory=dict)
    """What each layer loses; the numbers of these strategies become tables."""

    @classmethod
    def of(cls, campaign: Campaign, layers: tuple[Layer, ...], formats: frozenset[str],
           why_not: WhyNot = lambda strategy, names: None) -> "Space":
        """The campaign's strategies that the device's number formats allow, on the groups of
        layers where they change something. Raises UserError."""
        known = {s.name: s for s in all_strategies()}
        names = campaign.search.strategies or tuple(known)
        for name in names:
            if name not in known:
                raise UserError(f"Unknown strategy {name!r}. {nearest(name, known)}")
        _check_limits(campaign.search.limits, known)
        unsupported = unsupported_strategies(campaign, formats)
        chosen = sorted((known[n] for n in names if n not in unsupported),
                        key=lambda s: STAGES.index(s.stage))
        trainings = [s for s in chosen if s.stage == "training" and s.name != "finetune"]
        limits = Limits(dict(campaign.search.limits))
        choices, notes = offers([s for s in chosen if s.stage != "training"], layers, limits,
                                why_not)
        return cls(tuple(choices), (*trainings, known["finetune"]), layers, limits, tuple(notes))

    def sample(self, trial: AskedTrial, moves: Sequence[str] = ()) -> Recipe:
        """Sample one recipe, in canonical form. A strategy that is on for the whole model is not
        suggested for its parts. A training step always ends the torch part: the first of
        ``trainings`` that is on, else fine-tuning. ``moves`` are the names of moves of single
        layers to suggest (``searcher.search.recipes.tables``), where their strategy is on."""
        steps = {stage: list[Step]() for stage in STAGES}
        whole, moved = set[str](), dict[str, int]()
        for group, strategy in self.choices:
            if strategy.name in whole and group not in NARROW:
                continue
            choice = f"{group}.{strategy.name}"
            if trial.suggest_categorical(f"{choice}.on", [False, True]):
                steps[strategy.stage].append(self._step(trial, group, strategy))
                moved |= {name: trial.suggest_int(name, -MOST_LEVELS, MOST_LEVELS)
                          for name in moves if name.startswith(f"{choice}.")}
                whole |= {strategy.name} if group == "model" else set()
        steps["training"].append(self._training(trial))
        asked = [step.as_dict() for stage in STAGES for step in steps[stage]]
        return Recipe.from_list(canonical(
            resolved(asked, self.layers, self.scans, moved, self.limits), self.layers))

    @functools.cached_property
    def strengths(self) -> dict[str, "Range"]:
        """Ranges of the numbers that control compression, by full name; lower numbers compress
        more."""
        found: dict[str, Range] = {}
        for group, strategy in self.choices:
            if strategy.stage in ("structure", "weights"):
                members = [layer for layer in self.layers if group in layer.groups]
                found |= ranges_of(strategy, f"{group}.{strategy.name}.", members, self.limits)
        return found

    @functools.cached_property
    def movable(self) -> dict[str, tuple[str, list[str]]]:
        """The parameter and the layers with numbers of their own, of each ``<group>.<strategy>``
        whose numbers become tables."""
        found: dict[str, tuple[str, list[str]]] = {}
        for group, strategy in self.choices:
            parameter = scanned_parameter(strategy)
            members = layers_with_numbers(self.scans.get(strategy.name), group, [
                layer.name for layer in self.layers if group in layer.groups])
            if parameter is not None and members:
                found[f"{group}.{strategy.name}"] = parameter, members
        return found

    @functools.cached_property
    def training_numbers(self) -> dict[str, "Range"]:
        """Ranges of the numbers of all trainings, as ``<strategy>.<parameter>``."""
        found: dict[str, Range] = {}
        for strategy in self.trainings:
            found |= ranges_of(strategy, f"{strategy.name}.", self.layers, self.limits)
        return found

    def startup_switches(self, rng: random.Random) -> dict[str, bool]:
        """Switches of a startup recipe: in each stage one strategy for the whole model, or at most
        one per part, because random combinations of more destroy any model. Half of the startup
        recipes change only the structure: the fastest candidates are there, and further accuracy
        losses would hide them."""
        structure_only = rng.random() < STRUCTURE_ONLY_FRACTION
        compressing = [stage for stage in STAGES if stage != "training"]
        switches = {name: False for stage in compressing for name in self._switches(stage)}
        for stage in compressing[:1] if structure_only else compressing:
            switches |= self.sampled_switches(stage, rng)
        return switches

    def sampled_switches(self, stage: str, rng: random.Random) -> dict[str, bool]:
        """Sample all switches of one stage: one strategy for the whole model, or at most one per
        part."""
        names: dict[str, list[str]] = {}
        for name in self._switches(stage):
            group = name.partition(".")[0]
            if group not in NARROW:
                names.setdefault(group, []).append(name)
        whole = names.pop("model", [])
        if whole and (not names or rng.random() < WHOLE_MODEL_FRACTION):
            chosen = {rng.choice(whole if names else [*whole, ""])}
        else:
            chosen = {rng.choice([*part, ""]) for part in names.values()}
        return {name: name in chosen for name in self._switches(stage)}

    def _switches(self, stage: str) -> list[str]:
        if stage == "training":
            return [f"model.{s.name}.on" for s in self.trainings[:-1]]
        return [f"{group}.{s.name}.on" for group, s in self.choices if s.stage == stage]

    @property
    def narrow_off(self) -> dict[str, bool]:
        """The switches of narrow groups off: the sampler knows little of them, and a recipe with
        many of them destroys any model. Neighbours toggle them one by one."""
        return {f"{group}.{s.name}.on": False for group, s in self.choices if group in NARROW}

    def parts_of(self, choice: str) -> list[str]:
        """For ``model.<strategy>``, the same strategy in each part; otherwise empty."""
        group, _, strategy = choice.partition(".")
        return [f"{other}.{s.name}" for other, s in self.choices
                if group == "model" and other in PARTS and s.name == strategy]

    def stage_of(self, parameter: str) -> str:
        """The stage of a switch or number, by its full name."""
        strategy = parameter.split(".")[1]
        return next((s.stage for _, s in self.choices if s.name == strategy), "training")

    def compression(self, recipe: Recipe) -> Recipe:
        """The recipe without its training: what is compressed and repaired."""
        trainings = {s.name for s in self.trainings}
        return Recipe(tuple(s for s in recipe.steps if s.strategy not in trainings))

    def shared_training(self, recipe: Recipe) -> str:
        """Hash of the steps that determine the result of training; recipes with equal hashes share
        it. It includes the encoding when weights are constrained during training, because training
        then also adapts to the number format."""
        stages = {s.name: s.stage for _, s in self.choices}
        constrained = any(stages.get(step.strategy) == "weights" for step in recipe.steps)
        return Recipe(tuple(step for step in recipe.steps
                            if constrained or stages.get(step.strategy) != "encoding")).hash

    def _training(self, trial: AskedTrial) -> Step:
        for strategy in self.trainings[:-1]:
            if trial.suggest_categorical(f"model.{strategy.name}.on", [False, True]):
                return self._step(trial, "model", strategy)
        return self._step(trial, "model", self.trainings[-1])

    def _step(self, trial: AskedTrial, group: str, strategy: type[Strategy]) -> Step:
        suggester = ScopedSuggester(trial, f"{group}.{strategy.name}.")
        members = [layer for layer in self.layers if group in layer.groups]
        instance = strategy.suggest(suggester, members, self.limits)
        values: dict[str, Value] = {f.name: getattr(instance, f.name) for f in fields(instance)}
        return Step.of(strategy.name, group, values)


def unsupported_strategies(campaign: Campaign,
                           formats: frozenset[str]) -> dict[str, frozenset[str]]:
    """The campaign's strategies that a device with these number formats cannot run, each with the
    formats that the device lacks."""
    chosen = campaign.search.strategies
    return {s.name: s.requires - formats for s in all_strategies()
            if (not chosen or s.name in chosen) and not s.requires <= formats}


def _check_limits(limits: Mapping[str, tuple[float, float]],
                  known: Mapping[str, type[Strategy]]) -> None:
    """Raises UserError for a parameter that is not searched and for an empty range."""
    searched: dict[str, Range] = {}
    for strategy in known.values():
        searched |= ranges_of(strategy, f"{strategy.name}.", (), Limits())
    for name, (low, high) in limits.items():
        if name not in searched:
            raise UserError(f"Unknown parameter {name!r} in [search.limits]. "
                            f"{nearest(name, searched)}")
        whole = searched[name]
        low, high = max(low, whole.low), min(high, whole.high)
        if low > high or (whole.whole and math.ceil(low) > math.floor(high)):
            raise UserError(
                f"[search.limits] {name} = {list(limits[name])} contains no value of its range "
                f"from {whole.low:g} to {whole.high:g}. Choose limits within it.")
