"""Pareto fronts: pure functions on tuples, computed by moocore."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from searcher.spec.objectives import Objective


@dataclass(frozen=True)
class Point:
    """A finished candidate: its values and whether it satisfies every constraint."""

    trial: int
    values: Mapping[str, float]
    feasible: bool


def losses(values: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The values of the objectives, with maximised ones negated, so that smaller is better."""
    return tuple(values[o.name] if o.direction == "minimize" else -values[o.name]
                 for o in objectives)


def front_indices(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the non-dominated points (all axes minimised). Of equal points only the first is
    kept."""
    if not points:
        return []
    keep = moocore.is_nondominated(np.asarray(points, dtype=float), keep_weakly=False)
    return [index for index, kept in enumerate(keep) if kept]


def excess(values: Mapping[str, float], constraints: Mapping[str, float]) -> dict[str, float]:
    """Relative excess over each constraint whose value is known; positive means violated.

    The excess of ``accuracy_drop`` is absolute, that of any other value is divided by its bound.
    """
    found = {}
    for name, bound in constraints.items():
        if name in values:
            scale = 1.0 if name == "accuracy_drop" else max(bound, 1e-30)
            found[name] = (values[name] - bound) / scale
    return found


def front_of(points: Sequence[Point], objectives: Sequence[Objective]) -> list[Point]:
    """The feasible, non-dominated points, sorted by the first minimised objective."""
    feasible = [p for p in points if p.feasible]
    chosen = front_indices([losses(p.values, objectives) for p in feasible])
    order = next((o.name for o in objectives if o.direction == "minimize"), objectives[0].name)
    return sorted((feasible[i] for i in chosen), key=lambda p: p.values[order])
