"""Neighbours of a recipe in the search space, as parameters of the study.

A draft may lack numbers; ``completed`` samples them. All random numbers come from one
``random.Random``.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from searcher.search.recipes.offers import PARTS
from searcher.search.recipes.tables import MOST_LEVELS, move_name, moves_in
from searcher.search.space import STAGES, Space
from searcher.spec.recipe import Recipe

TOGGLE, MOVE_ALL, MOVE_PART, CROSSOVER = 0.1, 0.27, 0.27, 0.18
"""Fractions of the kinds of steps: toggle one strategy; move all numbers of the compression
together; move the numbers of one strategy in one part of the model; cross the stages of two
parents. The rest resamples a stage or a number."""
MOVE_LAYER = 0.5
"""Fraction of the moves in one part that move a single layer instead, where a scan knows it."""
INITIAL_STRENGTH = (0.1, 0.7)
"""Range of the strength of a strategy that was switched on."""
WEAKEN, STEP_SIZE = 0.25, (0.1, 0.4)
"""Fraction of moves towards weaker compression, and the range of the relative step size."""
LEAVE_OUT = 0.3
"""Fraction of weaker drafts that leave one of several strategies out."""
JITTER = 0.15
RESAMPLE_STAGE = 0.6
RESAMPLE_TRAINING = 0.35
"""Fraction of steps that also resample the training. It is fixed because the acquisition function
would rarely choose a step that changes the training alone."""
COMPRESSION = tuple(stage for stage in STAGES if stage != "training")
RESAMPLINGS = (1, 2)


@dataclass(frozen=True)
class Neighbours:
    """Steps in ``space``; ``rng`` is shared with the sampler."""

    space: Space
    rng: random.Random

    def startup(self, strength: float) -> dict[str, float]:
        """Startup recipe: few strategies switched on, with all numbers near ``strength`` (0 to
        1)."""
        switches = self.space.startup_switches(self.rng)
        return {**switches, **{
            name: span.value(strength + self.rng.uniform(-JITTER, JITTER))
            for name, span in self.space.strengths.items()
            if switches[f"{name.rpartition('.')[0]}.on"]}}

    def step(self, one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
        """A draft one step from ``one``; a crossover takes stages from ``other``. Unchanged
        leading steps form a prefix whose build is cached."""
        params = self._compression_step(dict(one), other)
        if self.rng.random() < RESAMPLE_TRAINING:
            params = {name: value for name, value in params.items()
                      if self.space.stage_of(name) != "training"}
            params |= self.space.sampled_switches("training", self.rng)
        return params

    def _compression_step(self, params: dict[str, float],
                          other: Mapping[str, float]) -> dict[str, float]:
        kind = self.rng.random()
        if kind < TOGGLE:
            return self._toggled(params)
        if kind < TOGGLE + MOVE_ALL:
            return self._moved(params)
        if kind < TOGGLE + MOVE_ALL + MOVE_PART:
            return self._part_moved(params)
        if kind < TOGGLE + MOVE_ALL + MOVE_PART + CROSSOVER:
            return self._crossover(params, other)
        for _ in range(self.rng.randint(*RESAMPLINGS)):
            self._resample(params)
        return params

    def weakened(self, params: Mapping[str, float]) -> dict[str, float]:
        """A draft that compresses less than ``params``: all numbers weaker, or a strategy less."""
        on = [f"{group}.{strategy.name}" for group, strategy in self.space.choices
              if params.get(f"{group}.{strategy.name}.on")]
        if len(on) > 1 and self.rng.random() < LEAVE_OUT:
            return {**params, f"{self.rng.choice(on)}.on": False}
        return self._moved(params, weaken=True)

    def completed(self, draft: Mapping[str, float]) -> tuple[dict[str, float], Recipe]:
        """The parameters of ``draft`` with missing numbers sampled and missing switches off, and
        the recipe."""
        trial = _Completing(draft, self.rng)
        recipe = self.space.sample(trial, moves_in(draft))
        return trial.params, recipe

    def _moved(self, params: Mapping[str, float], prefix: str = "", weaken: bool | None = None
               ) -> dict[str, float]:
        """Move all compression numbers, or those that start with ``prefix``, by a common step to
        stronger or weaker compression; None: to either."""
        step_size = self.rng.uniform(*STEP_SIZE)
        weaken = self.rng.random() < WEAKEN if weaken is None else weaken
        moved = dict(params)
        for name, span in self.space.strengths.items():
            if name in params and name.startswith(prefix):
                before, step = span.strength(params[name]), step_size * self.rng.uniform(0.5, 1.5)
                moved[name] = span.value(
                    before * (1 - step) if weaken else before + (1 - before) * step)
        return moved

    def _part_moved(self, params: dict[str, float]) -> dict[str, float]:
        """Move one strategy in one part of the model. A strategy for the whole model is first
        split into one per part, with equal numbers, because the parts tolerate different
        compression."""
        on = sorted({name.rpartition(".")[0] for name in self.space.strengths if name in params})
        if not on:
            return params
        chosen = self.rng.choice(on)
        if chosen in self.space.movable and self.rng.random() < MOVE_LAYER:
            return self._layer_moved(params, chosen)
        parts = self.space.parts_of(chosen)
        if parts:
            params = self._split_into_parts(params, chosen)
            chosen = self.rng.choice(parts)
        return self._moved(params, f"{chosen}.")

    def _layer_moved(self, params: Mapping[str, float], choice: str) -> dict[str, float]:
        """Move the number of one layer by a level, to stronger or weaker compression."""
        parameter, layers = self.space.movable[choice]
        name = move_name(choice, parameter, self.rng.choice(layers))
        by = params.get(name, 0) + self.rng.choice((-1, 1))
        return {**params, name: min(max(by, -MOST_LEVELS), MOST_LEVELS)}

    def _split_into_parts(self, params: Mapping[str, float], choice: str) -> dict[str, float]:
        """``params`` with strategy ``choice`` of the whole model replaced by the same strategy in
        each part."""
        whole = {name: value for name, value in params.items() if name.startswith(f"{choice}.")}
        return {**params, f"{choice}.on": False, **{
            f"{part}{name.removeprefix(choice)}": value
            for part in self.space.parts_of(choice) for name, value in whole.items()}}

    def _toggled(self, params: dict[str, float]) -> dict[str, float]:
        """Toggle one strategy in one part of the model or in all of it; a new one starts weak."""
        group, strategy = self.rng.choice(self.space.choices)
        choice, whole = f"{group}.{strategy.name}", f"model.{strategy.name}"
        if group in PARTS and params.get(f"{whole}.on"):
            params = self._split_into_parts(params, whole)
        on = not params.get(f"{choice}.on", False)
        if not on:
            return {**params, f"{choice}.on": False}
        return {**params, f"{choice}.on": True, **{
            name: span.value(self.rng.uniform(*INITIAL_STRENGTH))
            for name, span in self.space.strengths.items() if name.startswith(f"{choice}.")}}

    def _crossover(self, one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
        """Some stages of one parent, the other stages of another."""
        stages = {stage for stage in STAGES if self.rng.random() < 0.5}
        return {**{k: v for k, v in one.items() if self.space.stage_of(k) not in stages},
                **{k: v for k, v in other.items() if self.space.stage_of(k) in stages}}

    def _resample(self, params: dict[str, float]) -> None:
        """Resample the switches of one compression stage, or one of its numbers."""
        numbers = [name for name in self.space.strengths if name in params]
        if numbers and self.rng.random() > RESAMPLE_STAGE:
            del params[self.rng.choice(numbers)]
        else:
            params |= self.space.sampled_switches(self.rng.choice(COMPRESSION), self.rng)


class _Completing:
    """A ``searcher.search.space.AskedTrial`` that uses given parameters and samples the rest."""

    def __init__(self, given: Mapping[str, float], rng: random.Random) -> None:
        self._given, self._rng, self.params = given, rng, dict[str, float]()

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if name not in self._given:
            found = (math.exp(self._rng.uniform(math.log(low), math.log(high))) if log
                     else self._rng.uniform(low, high))
        else:
            found = self._given[name]
        self.params[name] = min(max(found, low), high)
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        found = self._given.get(name, self._rng.randint(low, high))
        self.params[name] = min(max(found, low), high)
        return int(self.params[name])

    def suggest_categorical(self, name: str, choices: Sequence[bool]) -> bool:
        """Missing switches are off."""
        self.params[name] = self._given.get(name, choices[0])
        return bool(self.params[name])
