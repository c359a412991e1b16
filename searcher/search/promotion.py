"""Rules of the search on plain values: what is infeasible, what is worth training."""

from collections.abc import Iterable, Mapping, Sequence

from searcher.pareto.front import Point, excess
from searcher.spec.objectives import Objective

HEADROOM = 0.01
"""Accuracy (absolute) that further training may still win back; short training gets no less. Of a
thousand short trainings on digits, one in ten of those further off came back within the limit."""


def shortfall(values: Mapping[str, float], optimistic_accuracy: float,
              points: Iterable[Point], objectives: Sequence[Objective]) -> float:
    """How far a candidate is from reaching the front even with ``optimistic_accuracy``.

    Zero when it could enter; otherwise the smallest relative cut of its measured costs (latency,
    bytes) that would stop the closest dominating point from dominating it. Positive numbers go
    to the sampler as a violated constraint, so that it learns without any training.
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
    """None when a measured, untrained candidate deserves training, else the reason in words and
    the violations for the sampler. ``values`` holds what the untrained graph tells."""
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
    """Whether full training may still bring a shortly trained candidate within the constraint."""
    return allowed_drop is None or accuracy_drop <= allowed_drop + HEADROOM


