"""Rules of the search on plain values: feasibility, and whether training is worthwhile."""

from collections.abc import Iterable, Mapping, Sequence

from searcher.pareto.front import Point, excess
from searcher.spec.objectives import DROP, Objective, costs_of, quality_of, scale_of

POOL = 24
"""Size of the pool of measured candidates. The candidate with the highest expected gain is trained
next; when the pool is full, those with the lowest are pruned, or complete as they are."""

TURNOVER = 3
"""Recipes sampled per training job, and candidates pruned from a full pool. Measuring costs 1/20
of training. A later sample is based on more results, so sampling is tied to training."""


def shortfall(values: Mapping[str, float], optimistic_quality: float,
              points: Iterable[Point], objectives: Sequence[Objective]) -> float:
    """Relative cost reduction that a candidate needs to reach the front with
    ``optimistic_quality``.

    Zero when it can enter; otherwise the smallest relative reduction of its measured costs
    (latency, bytes) after which the closest dominating point no longer dominates it. The sampler
    receives positive values as a violated constraint and so learns from candidates without
    training.
    """
    costs, quality = costs_of(objectives), quality_of(objectives)
    least = quality.loss(optimistic_quality)
    worst = 0.0
    for point in points:
        if not point.feasible or quality.loss(point.values[quality.name]) > least:
            continue
        margins = [values[c] / point.values[c] - 1 for c in costs]
        if min(margins) >= 0:
            worst = max(worst, min(margins) + 1e-9)
    return worst


def why_not_train(values: Mapping[str, float], constraints: Mapping[str, float],
                  optimistic_quality: float, points: Iterable[Point],
                  objectives: Sequence[Objective]) -> tuple[str, dict[str, float]] | None:
    """None when a measured, untrained candidate is worth training, else the reason in words and
    the violated constraints for the sampler. ``values`` are those of the untrained graph."""
    broken = {k: v for k, v in excess(values, constraints, scale_of(objectives)).items() if v > 0}
    if broken:
        names = ", ".join(f"{k} is {values[k]:g}, allowed {constraints[k]:g}" for k in broken)
        return f"breaks a constraint before training: {names}", broken
    short = shortfall(values, optimistic_quality, points, objectives)
    if short > 0:
        return ("cannot reach the front: another candidate costs no more, and its "
                f"{quality_of(objectives).name} is no worse than {optimistic_quality:.4g}"), {
                    "reach": short}
    return None


def within_reach(optimistic_drop: float, constraints: Mapping[str, float]) -> bool:
    """Whether a candidate may keep the constraint of the quality drop, given the least drop that
    it may still reach, in the metric's unit."""
    allowed = constraints.get(DROP)
    return allowed is None or optimistic_drop <= allowed
