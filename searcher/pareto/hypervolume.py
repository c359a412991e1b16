"""Hypervolume of a front, computed by moocore, and the gain from one more point."""

import math
from collections.abc import Mapping, Sequence

import moocore
import numpy as np

from searcher.pareto.front import Point
from searcher.spec.objectives import Objective

REACH = 0.1
"""Absolute accuracy drop from the baseline at which a point adds no hypervolume. A larger value
weighs cost more heavily against accuracy."""


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
                     objectives: Sequence[Objective]) -> float:
    """Hypervolume that ``values`` would add to ``front``.

    Costs are the logarithm of their ratio to the baseline's, so that every halving counts the
    same. The reference point is the baseline's cost and ``REACH`` below its accuracy.
    """
    reference = [0.0 if o.name != "accuracy" else REACH - baseline["accuracy"]
                 for o in objectives]

    def coordinates(found: Mapping[str, float]) -> list[float]:
        return [-found["accuracy"] if o.name == "accuracy"
                else math.log(found[o.name] / baseline[o.name]) for o in objectives]

    points = [coordinates(p.values) for p in front]
    return volume([*points, coordinates(values)], reference) - volume(points, reference)
