"""A metric over a split, batch by batch: for the evaluation of files and for validation.

    scoring = Scoring(metric, len(samples))
    for batch in samples.batches(100):
        scoring.add(outputs_of(batch), batch.targets)
    scored = scoring.result()
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from searcher.statistics.score_codec import LARGEST_SCORES_BYTES
from searcher.tasks.metrics.answers import check_finite
from searcher.tasks.metrics.base import Metric, SampleError, Total

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array

T = TypeVar("T")


@dataclass(frozen=True)
class Scored:
    """``scores`` has one row per sample, (n,) or (n, width), and ``interval`` is the 95 % interval
    of ``value``. Both are None where the rows take more than ``LARGEST_SCORES_BYTES``."""

    value: float
    scores: "Array | None"
    interval: tuple[float, float] | None


class Scoring:
    """Takes the outputs of a split of ``n`` samples in order."""

    def __init__(self, metric: Metric, n: int) -> None:
        self._metric, self._n = metric, n
        self._rows: list[Array] = []
        self._total: Total | None = None
        self._start = 0

    def add(self, outputs: "Array", wanted: "Array") -> None:
        """Model outputs (b, ...) of the next ``b`` samples, and their targets or, for a metric
        ``against`` the reference, the outputs of the uncompressed model (b, ...). Raises
        ValueError that names the sample or the samples, what was found and what is expected."""
        try:
            check_finite(outputs, "output")
            rows = _asked(self._metric, lambda: self._metric.scores(outputs, wanted))
            _check_rows(self._metric, rows, len(outputs))
        except SampleError as error:
            raise SampleError(self._start + error.sample, error.why) from error
        except ValueError as error:
            last = self._start + max(len(outputs), 1) - 1
            raise ValueError(f"samples {self._start} to {last}: {error}") from error
        if self._rows and self._rows[0].shape[1:] != rows.shape[1:]:
            raise ValueError(
                f"samples from {self._start} on have scores of shape {rows.shape[1:]}, the others "
                f"{self._rows[0].shape[1:]}: outputs or targets differ in size between batches")
        if self._start == 0 and row_bytes(rows) * self._n > LARGEST_SCORES_BYTES:
            self._total = _asked(self._metric, self._metric.total)
        self._start += len(outputs)
        if self._total is None:
            self._rows.append(rows)
        else:
            total = self._total
            _asked(self._metric, lambda: total.add(rows))

    def value(self) -> float:
        """The metric of the whole split, without the cost of an interval. Raises ValueError when
        not all of the split was added, or the metric is not defined for it."""
        rows = self._all_rows()
        value = _asked(self._metric, lambda: (
            self._total.value() if self._total is not None else self._metric.value(rows)))
        return _finite(self._metric, value)

    def result(self) -> Scored:
        """Value, rows and interval of the whole split. Raises ValueError as ``value`` does."""
        value = self.value()
        if self._total is not None:
            return Scored(value, None, None)
        rows = self._all_rows()
        low, high = _asked(self._metric, lambda: self._metric.interval(rows))
        return Scored(value, rows, (float(low), float(high)))

    def _all_rows(self) -> "Array":
        import numpy as np

        if self._start != self._n or self._n == 0:
            raise ValueError(f"{self._start} samples were scored of a split of {self._n}")
        if len(self._rows) > 1:
            self._rows = [np.concatenate(self._rows)]
        return self._rows[0] if self._rows else np.empty(0)


def row_bytes(scores: "Array") -> int:
    """Bytes of one row of ``scores``."""
    return scores.itemsize * (scores.shape[1] if scores.ndim == 2 else 1)


def _asked(metric: Metric, call: Callable[[], T]) -> T:
    """What ``call`` of ``metric`` returns. Raises ValueError, whatever it raises."""
    try:
        return call()
    except ValueError:
        raise
    except Exception as error:  # a user's metric may raise anything
        raise ValueError(f"the metric {metric.name} raised {type(error).__name__}: "
                         f"{error}") from error


def _check_rows(metric: Metric, rows: object, n: int) -> None:
    import numpy as np

    if not isinstance(rows, np.ndarray) or rows.ndim not in (1, 2) or len(rows) != n:
        found = (f"an array of shape {rows.shape}" if isinstance(rows, np.ndarray)
                 else type(rows).__name__)
        raise ValueError(f"the metric {metric.name} gave {found} as scores of {n} samples; "
                         f"expected an array ({n},) or ({n}, width)")
    if rows.dtype.kind not in "biuf":
        raise ValueError(f"the metric {metric.name} gave scores of type {rows.dtype}; "
                         "expected booleans, integers or floats")
    if rows.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(rows.reshape(n, -1)).all(axis=1))
        if len(bad):
            raise SampleError(int(bad[0]), f"its score by {metric.name} is not finite")


def _finite(metric: Metric, value: float) -> float:
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{metric.name} of the whole split is {value}")
    return float(value)
