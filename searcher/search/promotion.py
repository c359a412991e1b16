"""Rules of the search on plain values: feasibility, and whether training is worthwhile."""

from collections.abc import Iterable, Mapping, Sequence

from searcher.pareto.front import Point, excess
from searcher.spec.objectives import Objective

HEADROOM = 0.01
"""Accuracy (absolute) that full training may gain over short training. Of a thousand short
trainings on digits, one in ten of those with a larger deficit became feasible."""

TURNOVER = 3
"""Recipes sampled per training job, and candidates pruned from a full pool. Measuring costs 1/20
of training. A later sample is based on more results, so sampling is tied to training."""


def shortfall(values: Mapping[str, float], optimistic_accuracy: float,
              points: Iterable[Point], objectives: Sequence[Objective]) -> float:
    """Relative cost reduction that a candidate needs to reach the front with
    ``optimistic_accuracy``.

    Zero when it can enter; otherwise the smallest relative reduction of its measured costs
    (latency, bytes) after which the closest dominating point no longer dominates it. The sampler
    receives positive values as a violated constraint and so learns from candidates without
    training.
    """
    costs = [o.name for o in objectives if o.name != "accuracy"]
    worst = 0.0
    for point in points:
        if not point.feasible or point.values["accuracy"] < optimistic_accuracy:
            continue
        margins = [values[c] / point.values[c] - 1 for c in costs]
        if min(margins) >= 0:
            worst = max(worst, min(margins) + 1e-9)
    return worst


def why_not_train(values: Mapping[str, float], constraints: Mapping[str, float],
                  optimistic_accuracy: float, points: Iterable[Point],
                  objectives: Sequence[Objective]) -> tuple[str, dict[str, float]] | None:
    """None when a measured, untrained candidate is worth training, else the reason in words and
    the violated constraints for the sampler. ``values`` are those of the untrained graph."""
    broken = {k: v for k, v in excess(values, constraints).items() if v > 0}
    if broken:
        names = ", ".join(f"{k} is {values[k]:g}, allowed {constraints[k]:g}" for k in broken)
        return f"breaks a constraint before training: {names}", broken
    short = shortfall(values, optimistic_accuracy, points, objectives)
    if short > 0:
        return ("cannot reach the front: another candidate is no slower, no larger and as "
                f"accurate as {optimistic_accuracy:.4f}"), {"reach": short}
    return None


def worth_continuing(accuracy_drop: float, allowed_drop: float | None) -> bool:
    """Whether full training may bring a candidate within the constraint after short training."""
    return allowed_drop is None or accuracy_drop <= allowed_drop + HEADROOM


