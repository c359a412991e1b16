"""Rows of target and predicted class, and what metrics of classes count in them."""

from typing import TYPE_CHECKING

from searcher.tasks.metrics.answers import classes_of, labels, numbers, predicted
from searcher.tasks.metrics.base import Total

if TYPE_CHECKING:
    from collections.abc import Callable

    from searcher.tasks.metrics.base import Array

OTHER = -1
"""Stands for all classes beside the one that is looked at, and has no value of its own."""


def label_rows(outputs: "Array", targets: "Array", metric: str) -> "Array":
    """(n, 2) of the smallest signed type: ``targets`` (n,) and predicted classes of ``outputs``
    (n, classes), or of one logit (n,) or (n, 1)."""
    import numpy as np

    logits = numbers(outputs, targets, metric)
    if logits.ndim > 2:
        raise ValueError(
            f"outputs have shape {logits.shape}; {metric} needs one logit per class, (n, classes), "
            "or one logit (n, 1). Use metric \"mean_iou\" for classes of pixels")
    classes = classes_of(logits)
    wanted = labels(targets, (len(logits),), classes, metric)
    return np.stack([wanted, predicted(logits)], axis=1).astype(np.min_scalar_type(-classes))


class PairTotal(Total):
    """Counts each pair of target and prediction; ``value_of`` takes the rows and the number of
    samples of each."""

    def __init__(self, value_of: "Callable[[Array, Array], float]") -> None:
        self._value_of = value_of
        self._counts: dict[tuple[int, int], int] = {}

    def add(self, scores: "Array") -> None:
        rows, counts = pairs(scores)
        for (target, found), count in zip(rows.tolist(), counts.tolist(), strict=True):
            self._counts[target, found] = self._counts.get((target, found), 0) + count

    def value(self) -> float:
        import numpy as np

        return self._value_of(np.array(list(self._counts)), np.array(list(self._counts.values())))


def pairs(scores: "Array") -> "tuple[Array, Array]":
    """The pairs of target and prediction that occur, (m, 2) int64, and the samples of each."""
    import numpy as np

    rows = scores.astype(np.int64)
    low = int(rows.min())
    width = int(rows.max()) - low + 1
    found, counts = np.unique((rows[:, 0] - low) * width + rows[:, 1] - low, return_counts=True)
    return np.stack([found // width, found % width], axis=1) + low, counts
