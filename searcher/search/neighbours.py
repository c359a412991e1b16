"""Steps through the space of recipes, on parameters as the study names them.

A draft may leave numbers open; ``completed`` draws them. Everything drawn comes from one
``random.Random``.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from searcher.search.space import STAGES, Space
from searcher.spec.recipe import Recipe

SWITCH, MOVE_ALL, MOVE_PART, CROSS = 0.1, 0.27, 0.27, 0.18
"""How many steps switch one strategy on or off, how many move all numbers of the compression
together, how many those of one strategy in one part of the model, and how many take some stages
from one point and some from another; the others draw a stage or a number anew."""
MILD = (0.1, 0.7)
"""How strong a strategy is that was switched on."""
LOOSEN, STRIDE = 0.25, (0.1, 0.4)
"""Of the moves, how many go back towards the baseline, and how far one goes."""
JITTER = 0.15
STAGE_ANEW = 0.6
TRAINING_ANEW = 0.35
"""How many steps draw the training anew, too: by itself it would never promise most."""
COMPRESSION = tuple(stage for stage in STAGES if stage != "training")
CHANGES = (1, 2)


@dataclass(frozen=True)
class Neighbours:
    """``draw`` is shared with whoever makes it."""

    space: Space
    draw: random.Random

    def on_rung(self, ambition: float) -> dict[str, float]:
        """Few switches, and all numbers about as strong as ``ambition``."""
        switches = self.space.few_switches(self.draw)
        return {**switches, **{
            name: span.value(ambition + self.draw.uniform(-JITTER, JITTER))
            for name, span in self.space.strengths.items()
            if switches[f"{name.rpartition('.')[0]}.on"]}}

    def step(self, one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
        """A draft one step away from ``one``, perhaps towards ``other``; what stays equal is a
        prefix that need not be built again."""
        params = self._compression_step(dict(one), other)
        if self.draw.random() < TRAINING_ANEW:
            params = {name: value for name, value in params.items()
                      if self.space.stage_of(name) != "training"}
            params |= self.space.stage_anew("training", self.draw)
        return params

    def _compression_step(self, params: dict[str, float],
                          other: Mapping[str, float]) -> dict[str, float]:
        kind = self.draw.random()
        if kind < SWITCH:
            return self._switched(params)
        if kind < SWITCH + MOVE_ALL:
            return self._moved(params)
        if kind < SWITCH + MOVE_ALL + MOVE_PART:
            return self._part_moved(params)
        if kind < SWITCH + MOVE_ALL + MOVE_PART + CROSS:
            return self._crossed(params, other)
        for _ in range(self.draw.randint(*CHANGES)):
            self._change(params)
        return params

    def completed(self, draft: Mapping[str, float]) -> tuple[dict[str, float], Recipe]:
        """Every number that ``draft`` leaves open drawn, every switch off; and its recipe."""
        trial = _Completing(draft, self.draw)
        recipe = self.space.sample(trial)
        return trial.params, recipe

    def _moved(self, params: Mapping[str, float], prefix: str = "") -> dict[str, float]:
        """All that is compressed, or what ``prefix`` names, a common step stronger, or milder."""
        stride, loosen = self.draw.uniform(*STRIDE), self.draw.random() < LOOSEN
        moved = dict(params)
        for name, span in self.space.strengths.items():
            if name in params and name.startswith(prefix):
                before, step = span.strength(params[name]), stride * self.draw.uniform(0.5, 1.5)
                moved[name] = span.value(
                    before * (1 - step) if loosen else before + (1 - before) * step)
        return moved

    def _part_moved(self, params: dict[str, float]) -> dict[str, float]:
        """One strategy stronger, or milder, in one part of the model: the parts of a network can
        bear different things, and what was chosen for all of it is the place to start from."""
        on = sorted({name.rpartition(".")[0] for name in self.space.strengths if name in params})
        if not on:
            return params
        chosen = self.draw.choice(on)
        parts = self.space.parts_of(chosen)
        if parts:
            params = self._parted(params, chosen)
            chosen = self.draw.choice(parts)
        return self._moved(params, f"{chosen}.")

    def _parted(self, params: Mapping[str, float], choice: str) -> dict[str, float]:
        """The same compression, with what ``choice`` does to the whole model done to its parts."""
        whole = {name: value for name, value in params.items() if name.startswith(f"{choice}.")}
        return {**params, f"{choice}.on": False, **{
            f"{part}{name.removeprefix(choice)}": value
            for part in self.space.parts_of(choice) for name, value in whole.items()}}

    def _switched(self, params: dict[str, float]) -> dict[str, float]:
        """One strategy on, mildly, or off, in one part of the model or in all of it."""
        group, strategy = self.draw.choice(self.space.choices)
        choice, whole = f"{group}.{strategy.name}", f"model.{strategy.name}"
        if choice != whole and params.get(f"{whole}.on"):
            params = self._parted(params, whole)
        on = not params.get(f"{choice}.on", False)
        if not on:
            return {**params, f"{choice}.on": False}
        return {**params, f"{choice}.on": True, **{
            name: span.value(self.draw.uniform(*MILD))
            for name, span in self.space.strengths.items() if name.startswith(f"{choice}.")}}

    def _crossed(self, one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
        """Some stages from one parent, the others from another."""
        stages = {stage for stage in STAGES if self.draw.random() < 0.5}
        return {**{k: v for k, v in one.items() if self.space.stage_of(k) not in stages},
                **{k: v for k, v in other.items() if self.space.stage_of(k) in stages}}

    def _change(self, params: dict[str, float]) -> None:
        """The switches of one stage of the compression, or one of its numbers, drawn anew."""
        numbers = [name for name in self.space.strengths if name in params]
        if numbers and self.draw.random() > STAGE_ANEW:
            del params[self.draw.choice(numbers)]
        else:
            params |= self.space.stage_anew(self.draw.choice(COMPRESSION), self.draw)


class _Completing:
    """A ``searcher.search.space.AskedTrial`` that takes what is given and draws the rest."""

    def __init__(self, given: Mapping[str, float], draw: random.Random) -> None:
        self._given, self._draw, self.params = given, draw, dict[str, float]()

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if name not in self._given:
            found = (math.exp(self._draw.uniform(math.log(low), math.log(high))) if log
                     else self._draw.uniform(low, high))
        else:
            found = self._given[name]
        self.params[name] = min(max(found, low), high)
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        found = self._given.get(name, self._draw.randint(low, high))
        self.params[name] = min(max(found, low), high)
        return int(self.params[name])

    def suggest_categorical(self, name: str, choices: Sequence[bool]) -> bool:
        """Switches; what is left open is off."""
        self.params[name] = self._given.get(name, choices[0])
        return bool(self.params[name])
