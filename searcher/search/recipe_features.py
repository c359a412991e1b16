"""A recipe as a row of numbers, for what is learnt about recipes (``expecting``).

One for each strategy in each part of the model: 0 where it is not used, from PRESENT (as mild as
it gets) to 1 (as strong as it gets) where it is; what is done to the whole model is done to each
of its parts. One more for each number of a training: -0.5 to 0.5 within its range.
"""

from searcher.search.space import Range, Space
from searcher.spec.recipe import Recipe

PRESENT = 0.4


class Features:
    """``names`` says what each number stands for: ``<group>.<strategy>`` or
    ``<strategy>.<parameter>`` of a training."""

    def __init__(self, space: Space) -> None:
        parted = {s.name for group, s in space.choices if group != "model"}
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
        """In the order of ``names``; a step that the space does not have counts for nothing."""
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


def _share(span: Range, value: object) -> float:
    assert isinstance(value, int | float)
    return min(max(span.strength(value), 0.0), 1.0)
