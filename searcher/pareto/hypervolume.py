"""Hypervolume of a front, computed by moocore, and the gain from one more point."""

import math
from collections.abc import Mapping, Sequence

import moocore
import numpy as np

from searcher.pareto.front import Point
from searcher.spec.objectives import Objective, scale_of

REACH = 0.1
"""Quality drop from the baseline, relative to the quality's scale, at which a point adds no
hypervolume, where no constraint tells. A larger value weighs cost more heavily against quality."""


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume dominated by ``points`` up to ``reference``, with each axis divided by the magnitude
    of the reference, so that units cancel. Points beyond the reference add nothing."""
    scale = np.abs(np.asarray(reference, dtype=float))
    scale[scale == 0] = 1.0
    return volume([np.asarray(p) / scale for p in points], np.asarray(reference) / scale)


def volume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume dominated by ``points`` up to ``reference``, without scaling (all minimised)."""
    inside = [p for p in points if all(a < b for a, b in zip(p, reference, strict=True))]
    return float(moocore.hypervolume(np.asarray(inside), ref=reference)) if inside else 0.0


def hypervolume_gain(values: Mapping[str, float], front: Sequence[Point],
                     baseline: Mapping[str, float],
                     objectives: Sequence[Objective], reach: float = REACH) -> float:
    """Hypervolume that ``values`` would add to ``front``.

    Costs are the logarithm of their ratio to the baseline's, so that every halving counts the
    same; the quality is divided by its scale. The reference point is the baseline's cost and
    ``reach`` worse than its quality.
    """
    scale = scale_of(objectives)

    def coordinates(found: Mapping[str, float]) -> list[float]:
        return [o.loss(found[o.name]) / scale if o.role == "quality"
                else math.log(found[o.name] / baseline[o.name]) for o in objectives]

    reference = [at + reach if o.role == "quality" else 0.0
                 for at, o in zip(coordinates(baseline), objectives, strict=True)]

    points = [coordinates(p.values) for p in front]
    return volume([*points, coordinates(values)], reference) - volume(points, reference)
