"""Recipes as vectors for the surrogate (``searcher.search.learnt.surrogate``).

There is one feature per strategy and part of the model: 0 if the strategy is not used there, else
from ``PRESENT`` (weakest) to 1 (strongest). A strategy for the whole model counts for each part.
Each number of a training is one more feature: -0.5 to 0.5 within its range.
"""

from searcher.search.recipes.offers import PARTS
from searcher.search.recipes.ranges import Range
from searcher.search.space import Space
from searcher.spec.recipe import Recipe

PRESENT = 0.4


class Features:
    """``names`` are the features: ``<group>.<strategy>``, or ``<strategy>.<parameter>`` of a
    training."""

    def __init__(self, space: Space) -> None:
        parted = {s.name for group, s in space.choices if group in PARTS}
        self.names = [*(f"{group}.{s.name}" for group, s in space.choices
                        if group != "model" or s.name not in parted),
                      *(f"model.{s.name}" for s in space.trainings), *space.training_numbers]
        self._numbers = space.training_numbers
        self._spans: dict[str, dict[str, Range]] = {}
        for name, span in space.strengths.items():
            choice, _, parameter = name.rpartition(".")
            self._spans.setdefault(choice, {})[parameter] = span
        choices = [f"{group}.{s.name}" for group, s in space.choices]
        self._parts = {choice: space.parts_of(choice) or [choice] for choice in choices}

    def of(self, recipe: Recipe) -> list[float]:
        """The features in the order of ``names``; steps outside the space are ignored."""
        found = dict.fromkeys(self.names, 0.0)
        for step in recipe.steps:
            choice = f"{step.layers}.{step.strategy}"
            spans = self._spans.get(choice, {})
            shares = [_share(spans[name], value) for name, value in step.parameters
                      if name in spans]
            strength = sum(shares) / len(shares) if shares else 0.5
            for part in self._parts.get(choice, [choice]):
                if part in found:
                    found[part] = PRESENT + (1 - PRESENT) * strength
            for name, value in step.parameters:
                key = f"{step.strategy}.{name}"
                if key in self._numbers:
                    found[key] = _share(self._numbers[key], value) - 0.5
        return list(found.values())

    def rate(self, recipe: Recipe) -> float:
        """The place of the learning rate of the training in its range, -0.5 to 0.5; 0 without."""
        for step in recipe.steps:
            span = self._numbers.get(f"{step.strategy}.learning_rate")
            if span is not None:
                return _share(span, dict(step.parameters)["learning_rate"]) - 0.5
        return 0.0


def _share(span: Range, value: object) -> float:
    """A table counts by its mean."""
    if isinstance(value, tuple):
        value = sum(number for _, number in value) / len(value)
    assert isinstance(value, int | float)
    return min(max(span.strength(value), 0.0), 1.0)
