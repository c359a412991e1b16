"""Pareto fronts: pure functions on tuples, computed by moocore."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from searcher.spec.objectives import DROP, Objective, costs_of


@dataclass(frozen=True)
class Point:
    """A finished candidate: its values and whether it satisfies every constraint."""

    trial: int
    values: Mapping[str, float]
    feasible: bool


def losses(values: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The values of the objectives, with maximised ones negated, so that smaller is better."""
    return tuple(o.loss(values[o.name]) for o in objectives)


def front_indices(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the non-dominated points (all axes minimised). Of equal points only the first is
    kept."""
    if not points:
        return []
    keep = moocore.is_nondominated(np.asarray(points, dtype=float), keep_weakly=False)
    return [index for index, kept in enumerate(keep) if kept]


def excess(values: Mapping[str, float], constraints: Mapping[str, float],
           scale: float) -> dict[str, float]:
    """Relative excess over each constraint whose value is known; positive means violated.

    The excess of ``quality_drop`` is divided by ``scale``, that of the quality; the excess of any
    other value by its bound.
    """
    found = {}
    for name, bound in constraints.items():
        if name in values:
            unit = scale if name == DROP else max(bound, 1e-30)
            found[name] = (values[name] - bound) / unit
    return found


def front_of(points: Sequence[Point], objectives: Sequence[Objective]) -> list[Point]:
    """The feasible, non-dominated points, sorted by the first cost."""
    feasible = [p for p in points if p.feasible]
    chosen = front_indices([losses(p.values, objectives) for p in feasible])
    order = next(iter(costs_of(objectives)), objectives[0].name)
    return sorted((feasible[i] for i in chosen), key=lambda p: p.values[order])
