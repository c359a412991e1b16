"""A recipe as a row of numbers, for what is learnt about recipes (``expecting``).

One for each strategy in each part of the model: 0 where it is not used, from PRESENT (as mild as
it gets) to 1 (as strong as it gets) where it is; what is done to the whole model is done to each
of its parts. One more for each number of a training: -0.5 to 0.5 within its range.
"""

from searcher.recipe import Recipe
from searcher.space import Range, Space

PRESENT = 0.4


def names(space: Space) -> list[str]:
    """What each number stands for: ``<group>.<strategy>`` or ``<strategy>.<parameter>``."""
    parted = {s.name for group, s in space.choices if group != "model"}
    return [*(f"{group}.{s.name}" for group, s in space.choices
              if group != "model" or s.name not in parted),
            *(f"model.{s.name}" for s in space.trainings), *space.training_numbers]


def features(space: Space, recipe: Recipe) -> list[float]:
    """In the order of ``names``; a step that the space does not have counts for nothing."""
    strengths, numbers = space.strengths, space.training_numbers
    found = dict.fromkeys(names(space), 0.0)
    for step in recipe.steps:
        choice = f"{step.layers}.{step.strategy}"
        spans = {name.rpartition(".")[2]: span for name, span in strengths.items()
                 if name.startswith(f"{choice}.")}
        shares = [_share(span, value) for name, value in step.parameters
                  if (span := spans.get(name)) is not None]
        strength = sum(shares) / len(shares) if shares else 0.5
        found |= {part: PRESENT + (1 - PRESENT) * strength
                  for part in space.parts_of(choice) or [choice] if part in found}
        found |= {key: _share(numbers[key], value) - 0.5 for name, value in step.parameters
                  if (key := f"{step.strategy}.{name}") in numbers}
    return list(found.values())


def _share(span: Range, value: object) -> float:
    assert isinstance(value, int | float)
    return min(max(span.strength(value), 0.0), 1.0)
