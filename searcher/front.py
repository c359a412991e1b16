"""Pareto fronts: pure functions on tuples, by moocore."""

from collections.abc import Mapping, Sequence

import moocore
import numpy as np

from searcher.spec.objectives import Objective


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


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume dominated by ``points`` up to ``reference``, every axis scaled by the reference's
    magnitude, so that the unit of an axis does not matter. Points beyond it add nothing."""
    scale = np.abs(np.asarray(reference, dtype=float))
    scale[scale == 0] = 1.0
    return volume([np.asarray(p) / scale for p in points], np.asarray(reference) / scale)


def volume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume dominated by ``points`` up to ``reference`` as it is (all minimised)."""
    inside = [p for p in points if all(a < b for a, b in zip(p, reference, strict=True))]
    return float(moocore.hypervolume(np.asarray(inside), ref=reference)) if inside else 0.0
