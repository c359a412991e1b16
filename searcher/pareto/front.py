"""Pareto fronts: pure functions on tuples, by moocore."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from searcher.spec.objectives import Objective


@dataclass(frozen=True)
class Point:
    """One finished candidate: its values and whether it keeps every constraint."""

    trial: int
    values: Mapping[str, float]
    feasible: bool


def losses(values: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The objectives' values with the sign that makes smaller better."""
    return tuple(values[o.name] if o.direction == "minimize" else -values[o.name]
                 for o in objectives)


def front_indices(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the non-dominated points (all minimised); of equal points the first stays."""
    if not points:
        return []
    keep = moocore.is_nondominated(np.asarray(points, dtype=float), keep_weakly=False)
    return [index for index, kept in enumerate(keep) if kept]


def excess(values: Mapping[str, float], constraints: Mapping[str, float]) -> dict[str, float]:
    """Relative excess per constraint whose value is known; positive is violated.

    ``accuracy_drop`` is relative to one (a share), everything else to its bound.
    """
    found = {}
    for name, bound in constraints.items():
        if name in values:
            scale = 1.0 if name == "accuracy_drop" else max(bound, 1e-30)
            found[name] = (values[name] - bound) / scale
    return found


def front_of(points: Sequence[Point], objectives: Sequence[Objective]) -> list[Point]:
    """The feasible, non-dominated points, by the first minimised objective."""
    feasible = [p for p in points if p.feasible]
    chosen = front_indices([losses(p.values, objectives) for p in feasible])
    order = next((o.name for o in objectives if o.direction == "minimize"), objectives[0].name)
    return sorted((feasible[i] for i in chosen), key=lambda p: p.values[order])
