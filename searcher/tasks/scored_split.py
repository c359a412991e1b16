"""The metric of one file on one split, and what another file loses against it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from searcher.errors import TaskError
from searcher.spec.objectives import Quality
from searcher.statistics.score_codec import unpack
from searcher.tasks.metrics import registry as metrics
from searcher.tasks.metrics.base import Z_95, Direction, Metric

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array

Interval = tuple[float, float]
T = TypeVar("T")


@dataclass(frozen=True)
class ScoredSplit:
    """``scores`` has one row per sample, None where it was too large to be stored; then only
    ``value`` is known. ``interval`` is that of ``value`` at 95 %, if it has one."""

    metric: str
    value: float
    n: int
    scores: "Array | None" = None
    interval: Interval | None = None

    @classmethod
    def of(cls, metric: str, value: float, n: int, content: bytes | None, encoding: str | None,
           interval: Interval | None) -> "ScoredSplit":
        """From packed scores. Older versions stored scores without an interval."""
        scores = None if content is None or encoding is None else unpack(content, encoding, n)
        if interval is None and scores is not None:
            found = metrics.named(metric)
            interval = _finite(*_asked(found, lambda: found.interval(scores)))
        return cls(metric, value, n, scores, interval)

    def drop(self, candidate: "ScoredSplit", z: float = Z_95) -> tuple[float, Interval | None]:
        """What ``candidate`` loses against this file over the same samples, positive where it is
        worse, and its interval at ``z`` standard deviations.

        Where scores are missing, it is the difference of the values, without an interval. Raises
        UserError when the metric cannot be loaded, or raises itself.
        """
        metric = metrics.named(self.metric)
        if (self.scores is None or candidate.scores is None
                or self.scores.shape != candidate.scores.shape):
            return signed(metric.direction, self.value - candidate.value), None
        return drop_of(metric, self.scores, candidate.scores, z)


def quality_of_metric(text: str, baseline: float | None = None) -> Quality:
    """The metric ``text`` as the quality of a campaign.

    Where a metric has no scale, it is the magnitude of the ``baseline``'s value; 1 where that is
    not known yet or 0. Raises UserError for an unknown metric.
    """
    metric = metrics.named(text)
    scale = metric.scale
    if scale is None:
        scale = abs(baseline or 0.0) or 1.0
    return Quality(metric.text, metric.name, metric.unit, metric.direction, scale)


def drop_of(metric: Metric, reference: "Array", scores: "Array",
            z: float = Z_95) -> tuple[float, Interval | None]:
    """What ``scores`` lose against ``reference`` over the same samples, positive where they are
    worse, and its interval at ``z`` standard deviations, None where it is unbounded. Raises
    TaskError when the metric raises."""
    difference, low, high = _asked(metric, lambda: metric.difference(reference, scores, z))
    if metric.direction == "maximize":
        return float(difference), _finite(low, high)
    return signed("minimize", float(difference)), _finite(-high, -low)


def signed(direction: Direction, difference: float) -> float:
    """A difference, reference minus candidate, with the sign that makes a loss positive."""
    return difference if direction == "maximize" else 0.0 - difference


def _finite(low: float, high: float) -> Interval | None:
    return (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None


def _asked(metric: Metric, call: Callable[[], T]) -> T:
    """What ``call`` of ``metric``, which may be the user's, returns. Raises TaskError."""
    try:
        return call()
    except Exception as error:
        raise TaskError(f"The metric {metric.text or metric.name} raised {type(error).__name__} "
                        f"for scores of two files: {error}. Correct the metric.") from error
