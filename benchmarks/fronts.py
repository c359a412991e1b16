"""Quality of a front: smallest and fastest point, order of pairs, hypervolume."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from searcher.pareto.hypervolume import hypervolume

WITHIN = 0.01
"""Accuracy on test (absolute) that a point may lose against the baseline."""
REFERENCE_DROP = 0.05
DIFFERENT = 0.03


@dataclass(frozen=True)
class Figures:
    """One file: accuracy or agreement on test (0..1), bytes, and p50 relative to the baseline's."""

    name: str
    accuracy_test: float
    file_bytes: int
    ratio: float


def best(points: Sequence[Figures], baseline_accuracy: float,
         cost: Callable[[Figures], float], within: float = WITHIN) -> Figures | None:
    """The cheapest point that loses at most ``within`` of accuracy on test."""
    allowed = [p for p in points if baseline_accuracy - p.accuracy_test <= within + 1e-9]
    return min(allowed, key=cost, default=None)


def reversed_pairs(first: Mapping[str, float], second: Mapping[str, float],
                   different: float = DIFFERENT) -> tuple[int, list[tuple[str, str]]]:
    """(number of pairs whose latencies differ by more than ``different`` in ``first``, those of
    them whose order is reversed in ``second``)."""
    distinct, reversed_ = 0, []
    for a, b in combinations(sorted(first.keys() & second.keys(), key=first.__getitem__), 2):
        if first[b] / first[a] - 1 > different:
            distinct += 1
            if second[b] < second[a]:
                reversed_.append((a, b))
    return distinct, reversed_


def volume_of(points: Sequence[Figures], baseline: Figures,
              reference_drop: float = REFERENCE_DROP) -> tuple[float, float]:
    """(hypervolume, fraction of the ideal). Objectives are test accuracy, latency ratio and bytes;
    the reference point has the baseline's costs and ``reference_drop`` less accuracy. The ideal is
    a model with the baseline's accuracy and no cost."""
    reference = (reference_drop - baseline.accuracy_test, baseline.ratio,
                 float(baseline.file_bytes))
    ideal = hypervolume([(-baseline.accuracy_test, 0.0, 0.0)], reference)
    found = hypervolume([(-p.accuracy_test, p.ratio, float(p.file_bytes)) for p in points],
                        reference)
    return found, found / ideal
