"""What may be combined into a recipe, and within which ranges: the space that is searched.

Parameters are named ``<group>.<strategy>.on`` and ``<group>.<strategy>.<parameter>``.
"""

import functools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from searcher.errors import UserError, nearest
from searcher.spec.campaign import Campaign
from searcher.spec.recipe import Recipe, Step, Value
from strategies.base import Layer, Limits, Strategy
from strategies.catalog import all_strategies

STAGES = ("structure", "weights", "training", "encoding")
GROUPS = ("model", "convolutions", "fully_connected")
WHOLE, STRUCTURE_ALONE = 0.5, 0.5
"""Shares of the startup recipes: one strategy for the whole model; nothing but structure."""


class AskedTrial(Protocol):
    """The part of ``optuna.Trial`` that is used here."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[bool]) -> bool: ...


class ScopedSuggester:
    """A ``strategies.base.Suggester`` that prefixes every name."""

    def __init__(self, trial: AskedTrial, prefix: str) -> None:
        self._trial, self._prefix = trial, prefix

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self._trial.suggest_float(self._prefix + name, low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self._trial.suggest_int(self._prefix + name, low, high, log=log)


@dataclass(frozen=True)
class Space:
    """What may be combined: (group, strategy class) in the order of a recipe's stages."""

    choices: tuple[tuple[str, type[Strategy]], ...]
    trainings: tuple[type[Strategy], ...]
    layers: tuple[Layer, ...]
    limits: Limits

    @classmethod
    def of(cls, campaign: Campaign, layers: tuple[Layer, ...], formats: frozenset[str]) -> "Space":
        """The campaign's strategies that the device's number formats allow. Raises UserError."""
        known = {s.name: s for s in all_strategies()}
        names = campaign.search.strategies or tuple(known)
        for name in names:
            if name not in known:
                raise UserError(f"Unknown strategy {name!r}. {nearest(name, known)}")
        _check_limits(campaign.search.limits, known)
        without = left_out(campaign, formats)
        chosen = sorted((known[n] for n in names if n not in without),
                        key=lambda s: STAGES.index(s.stage))
        trainings = [s for s in chosen if s.stage == "training" and s.name != "finetune"]
        present = {group for layer in layers for group in layer.groups}
        return cls(
            choices=tuple((group, s) for s in chosen if s.stage != "training"
                          for group in GROUPS if group in s.groups and group in present),
            trainings=(*trainings, known["finetune"]), layers=layers,
            limits=Limits(dict(campaign.search.limits)),
        )

    def sample(self, trial: AskedTrial) -> Recipe:
        """One recipe. What is on for the whole model is not asked of its parts; a training step
        always ends its torch part: the first of ``trainings`` that is on, else fine-tuning."""
        steps = {stage: list[Step]() for stage in STAGES}
        whole: set[str] = set()
        for group, strategy in self.choices:
            if strategy.name in whole:
                continue
            if trial.suggest_categorical(f"{group}.{strategy.name}.on", [False, True]):
                steps[strategy.stage].append(self._step(trial, group, strategy))
                whole |= {strategy.name} if group == "model" else set()
        steps["training"].append(self._training(trial))
        return Recipe(tuple(step for stage in STAGES for step in steps[stage]))

    @functools.cached_property
    def strengths(self) -> dict[str, "Range"]:
        """The numbers that say how much is compressed, by their full name: the lower, the more."""
        found: dict[str, Range] = {}
        for group, strategy in self.choices:
            if strategy.stage in ("structure", "weights"):
                members = [layer for layer in self.layers if group in layer.groups]
                found |= _ranges(strategy, f"{group}.{strategy.name}.", members, self.limits)
        return found

    @functools.cached_property
    def training_numbers(self) -> dict[str, "Range"]:
        """Of all trainings, as ``<strategy>.<parameter>``."""
        found: dict[str, Range] = {}
        for strategy in self.trainings:
            found |= _ranges(strategy, f"{strategy.name}.", self.layers, self.limits)
        return found

    def few_switches(self, draw: random.Random) -> dict[str, bool]:
        """What a startup recipe switches on: for each stage either one strategy for the whole
        model, or one at most for each part of it; stacked at random they destroy any model. Half
        of them change the structure alone: what is fastest is found there, and hidden as soon as
        anything else costs accuracy too."""
        alone = draw.random() < STRUCTURE_ALONE
        compressing = [stage for stage in STAGES if stage != "training"]
        switches = {name: False for stage in compressing for name in self._switches(stage)}
        for stage in compressing[:1] if alone else compressing:
            switches |= self.stage_anew(stage, draw)
        return switches

    def stage_anew(self, stage: str, draw: random.Random) -> dict[str, bool]:
        """All switches of one stage: one strategy for the whole model, or one at most for each
        part of it."""
        names: dict[str, list[str]] = {}
        for name in self._switches(stage):
            names.setdefault(name.partition(".")[0], []).append(name)
        whole = names.pop("model", [])
        if whole and (not names or draw.random() < WHOLE):
            chosen = {draw.choice(whole if names else [*whole, ""])}
        else:
            chosen = {draw.choice([*part, ""]) for part in names.values()}
        return {name: name in chosen for name in self._switches(stage)}

    def _switches(self, stage: str) -> list[str]:
        if stage == "training":
            return [f"model.{s.name}.on" for s in self.trainings[:-1]]
        return [f"{group}.{s.name}.on" for group, s in self.choices if s.stage == stage]

    def parts_of(self, choice: str) -> list[str]:
        """Of ``model.<strategy>``: the same strategy for each part; else nothing."""
        group, _, strategy = choice.partition(".")
        return [f"{other}.{s.name}" for other, s in self.choices
                if group == "model" and other != "model" and s.name == strategy]

    def stage_of(self, parameter: str) -> str:
        """Of a switch or a number, by its full name."""
        strategy = parameter.split(".")[1]
        return next((s.stage for _, s in self.choices if s.name == strategy), "training")

    def shared_training(self, recipe: Recipe) -> str:
        """Hash of the steps that decide what training gives: recipes that have them in common
        share it. What is constrained while it trains is also trained for its number format."""
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


def left_out(campaign: Campaign, formats: frozenset[str]) -> dict[str, frozenset[str]]:
    """The campaign's strategies that a device with these number formats cannot run, each with
    the formats that it lacks."""
    chosen = campaign.search.strategies
    return {s.name: s.requires - formats for s in all_strategies()
            if (not chosen or s.name in chosen) and not s.requires <= formats}


@dataclass(frozen=True)
class Range:
    """Where a number may lie; ``strength`` 0 is its high end (mild), 1 its low end."""

    low: float
    high: float
    log: bool
    whole: bool

    def value(self, strength: float) -> float | int:
        share = min(max(strength, 0.0), 1.0)
        if self.log:
            found: float = self.high * (self.low / self.high) ** share
        else:
            found = self.high + share * (self.low - self.high)
        found = min(max(found, self.low), self.high)
        return round(found) if self.whole else found

    def strength(self, value: float) -> float:
        if self.high <= self.low:
            return 0.0
        if self.log:
            return math.log(value / self.high) / math.log(self.low / self.high)
        return (self.high - value) / (self.high - self.low)


class _Ranges:
    """A ``strategies.base.Suggester`` that notes every range and takes its low end."""

    def __init__(self) -> None:
        self.found: dict[str, Range] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.found[name] = Range(low, high, log, False)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.found[name] = Range(low, high, log, True)
        return low


def _ranges(strategy: type[Strategy], prefix: str, layers: Sequence[Layer],
            limits: Limits) -> dict[str, Range]:
    ranges = _Ranges()
    strategy.suggest(ranges, layers, limits)
    return {prefix + name: span for name, span in ranges.found.items()}


def _check_limits(limits: Mapping[str, tuple[float, float]],
                  known: Mapping[str, type[Strategy]]) -> None:
    """Raises UserError for a parameter that is not searched and for an empty range."""
    searched: dict[str, Range] = {}
    for strategy in known.values():
        searched |= _ranges(strategy, f"{strategy.name}.", (), Limits())
    for name, (low, high) in limits.items():
        if name not in searched:
            raise UserError(f"Unknown parameter {name!r} in [search.limits]. "
                            f"{nearest(name, searched)}")
        whole = searched[name]
        low, high = max(low, whole.low), min(high, whole.high)
        if low > high or (whole.whole and math.ceil(low) > math.floor(high)):
            raise UserError(f"[search.limits] {name} = {list(limits[name])} leaves nothing of its "
                            f"range from {whole.low:g} to {whole.high:g}.")
