"""Mean intersection over union of classes of pixels (Jaccard 1912; Everingham et al. 2010)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from searcher.tasks.metrics.answers import classes_of, labels, numbers, predicted
from searcher.tasks.metrics.base import Z_95, Metric, Total, check_pairs

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array


class MeanIou(Metric):
    """The mean, over the classes that occur in the targets or predictions of the split, of the
    pixels that both have divided by the pixels that one of them has. Pixels whose target is
    ``ignore_index`` do not count."""

    name = "mean_iou"
    unit = "share"
    direction = "maximize"

    def __init__(self, *, ignore_index: int | None = None) -> None:
        if ignore_index is not None and (
                isinstance(ignore_index, bool) or not isinstance(ignore_index, int)):
            raise ValueError(f"ignore_index is {ignore_index!r}; expected an integer or None")
        self.ignore_index = ignore_index

    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """(n, 2 * classes) of the smallest unsigned type: the pixels of each class that ``outputs``
        (n, classes, *size) and ``targets`` (n, *size) share, then those of their union. One channel
        of outputs is the logit of class 1."""
        import numpy as np

        logits = numbers(outputs, targets, self.name)
        if logits.ndim < 3:
            raise ValueError(
                f"outputs have shape {logits.shape}; {self.name} needs one logit per class and "
                "pixel, (n, classes, height, width). Use metric \"accuracy\" or "
                "\"balanced_accuracy\" for classes of samples")
        n, classes = len(logits), classes_of(logits)
        wanted = labels(targets, (n, *logits.shape[2:]), classes, self.name,
                        self.ignore_index).reshape(n, -1)
        found = predicted(logits).reshape(n, -1)
        counts = np.ones_like(wanted, bool) if self.ignore_index is None else (
            wanted != self.ignore_index)
        place = np.arange(n)[:, None] * classes
        size = n * classes

        def pixels(classified: "Array", chosen: "Array") -> "Array":
            return np.bincount((classified + place)[chosen], minlength=size).reshape(n, classes)

        both = pixels(found, counts & (found == wanted))
        union = pixels(found, counts) + pixels(wanted, counts) - both
        return np.concatenate([both, union], axis=1).astype(
            np.min_scalar_type(wanted.shape[1]))

    def value(self, scores: "Array") -> float:
        return _value(scores.sum(axis=0, dtype=int))

    def total(self) -> Total:
        return _Pixels()

    def interval(self, scores: "Array", z: float = Z_95) -> tuple[float, float]:
        """Pixels of a picture are alike: pictures are the samples. Each class has the number of
        pixels that would give its variance between pictures if they were independent, and moves to
        its Wilson limit (``searcher.statistics.proportions``)."""
        import numpy as np

        from searcher.statistics.proportions import extreme_shares

        both, union = _occurring(scores)
        totals = union.sum(axis=0)
        shares = both.sum(axis=0) / totals
        moves = (both - shares * union) / totals
        pictures = totals**2 / (union * union).sum(axis=0)
        squares = (moves * moves).sum(axis=0)
        shared = (moves * moves.sum(axis=1, keepdims=True)).sum(axis=0) - squares
        variances = squares * pictures / np.maximum(pictures - 1, 0.5)
        spread = shares * (1 - shares)
        sizes = np.where(variances > 0, spread / np.where(variances > 0, variances, 1.0), pictures)
        k = len(totals)
        low, high = extreme_shares(
            shares, sizes, np.full(k, 1 / k), variances, shared / k, z)
        return float(low.mean()), float(high.mean())

    def difference(self, reference: "Array", scores: "Array",
                   z: float = Z_95) -> tuple[float, float, float]:
        """By the influence of each picture; for equal rows, as if half a picture differed."""
        import numpy as np

        from searcher.statistics.means import influence_interval
        from searcher.statistics.proportions import paired_variance_floor

        check_pairs(reference, scores)
        before, moves_before = _influences(reference)
        after, moves_after = _influences(scores)
        moves = moves_before - moves_after
        floor = 0.0
        if not moves.any():
            pictures = (_occurring(reference)[1] > 0).sum(axis=0)
            floor = paired_variance_floor(pictures, np.full(len(pictures), 1 / len(pictures)))
        return (before - after, *influence_interval(before - after, moves, z, floor))

    def parts(self, scores: "Array") -> Mapping[str, "Array"]:
        """The intersection and union of each class that occurs."""
        classes = scores.shape[1] // 2
        occurs = scores[:, classes:].max(axis=0) > 0
        return {f"class {label}": scores[:, [label, classes + label]]
                for label in range(classes) if occurs[label]}


class _Pixels(Total):
    def __init__(self) -> None:
        self._sum: Array | None = None

    def add(self, scores: "Array") -> None:
        added: Array = scores.sum(axis=0, dtype=int)
        self._sum = added if self._sum is None else self._sum + added

    def value(self) -> float:
        if self._sum is None:
            raise ValueError("mean_iou needs a picture")
        return _value(self._sum)


def _value(totals: "Array") -> float:
    classes = len(totals) // 2
    both, union = totals[:classes], totals[classes:]
    if not union.any():
        raise ValueError("mean_iou needs a pixel that counts; the target of every pixel is "
                         "ignore_index")
    return float((both[union > 0] / union[union > 0]).mean())


def _occurring(scores: "Array") -> "tuple[Array, Array]":
    """Intersections and unions (n, k) of the k classes that occur."""
    classes = scores.shape[1] // 2
    both, union = scores[:, :classes].astype(float), scores[:, classes:].astype(float)
    occurs = union.any(axis=0)
    if not occurs.any():
        raise ValueError("mean_iou needs a pixel that counts; the target of every pixel is "
                         "ignore_index")
    return both[:, occurs], union[:, occurs]


def _influences(scores: "Array") -> "tuple[float, Array]":
    """The value, and by how much each picture moves it, (n,)."""
    both, union = _occurring(scores)
    totals = union.sum(axis=0)
    shares = both.sum(axis=0) / totals
    return float(shares.mean()), ((both - shares * union) / totals).mean(axis=1)
