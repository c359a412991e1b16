"""Rules of the search on plain values: what is infeasible, what is worth training."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from searcher.front import front_indices, losses, volume
from searcher.spec.objectives import Objective

REACH = 0.1
"""Accuracy below the baseline (absolute) at which a point adds nothing: the farther, the more a cut
of the costs counts against accuracy."""
HEADROOM = 0.01
"""Accuracy (absolute) that further training may still win back; short training gets no less. Of a
thousand short trainings on digits, one in ten of those further off came back within the limit."""


@dataclass(frozen=True)
class Point:
    """One finished candidate: its values and whether it keeps every constraint."""

    trial: int
    values: Mapping[str, float]
    feasible: bool


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


def promise(values: Mapping[str, float], front: Sequence[Point], baseline: Mapping[str, float],
            objectives: Sequence[Objective]) -> float:
    """Hypervolume that ``values`` would add to ``front``, costs on a log scale against the
    baseline's, so that halving counts alike whether it is the first or the fifth time."""
    reference = [0.0 if o.name != "accuracy" else REACH - baseline["accuracy"]
                 for o in objectives]

    def place(found: Mapping[str, float]) -> list[float]:
        return [-found["accuracy"] if o.name == "accuracy"
                else math.log(found[o.name] / baseline[o.name]) for o in objectives]

    points = [place(p.values) for p in front]
    return volume([*points, place(values)], reference) - volume(points, reference)
