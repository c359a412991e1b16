"""The mean F1 over classes (van Rijsbergen 1979)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from searcher.tasks.metrics.base import Z_95, Metric, Total, check_pairs
from searcher.tasks.metrics.confusion import OTHER, PairTotal, label_rows, pairs

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array


class F1Macro(Metric):
    """The mean, over the classes that occur in targets or predictions, of the harmonic mean of
    precision and recall."""

    name = "f1_macro"
    unit = "share"
    direction = "maximize"

    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """(n, 2): target and predicted class, of ``outputs`` (n, classes) or one logit (n, 1)."""
        return label_rows(outputs, targets, self.name)

    def value(self, scores: "Array") -> float:
        return _value(*pairs(scores))

    def total(self) -> Total:
        return PairTotal(_value)

    def interval(self, scores: "Array", z: float = Z_95) -> tuple[float, float]:
        """F1 is 2 J / (1 + J), where J, the Jaccard index, is the share of right samples among
        those that belong to the class by target or prediction. Each J moves to its Wilson limit by
        its correlation with the sum (``searcher.statistics.proportions``); a confusion counts
        against both of its classes. The interval is shifted by the bias that few samples cause.
        """
        import numpy as np

        from searcher.statistics.proportions import extreme_shares, unbiased_variances

        found = _jaccard(*pairs(scores))
        share, size = found.shares, found.sizes
        k = len(size)
        variances = unbiased_variances(share, size)
        slopes = 2 / (1 + share) ** 2 / k
        part = share / size
        shared = np.zeros(k)
        one, other = found.confused.T
        np.add.at(shared, one, part[one] * part[other] * slopes[other] * found.counts)
        np.add.at(shared, other, part[one] * part[other] * slopes[one] * found.counts)
        low, high = extreme_shares(share, size, slopes, variances, shared, z)
        bias = float((2 / (1 + share) ** 3 * variances).mean())
        value = float(_f1(share).mean())
        return (min(float(_f1(low).mean()) + bias, value),
                min(max(float(_f1(high).mean()) + bias, value), 1.0))

    def difference(self, reference: "Array", scores: "Array",
                   z: float = Z_95) -> tuple[float, float, float]:
        """By the influence of each sample, with half an observation in each discordant cell."""
        import numpy as np

        from searcher.statistics.means import influence_interval
        from searcher.statistics.proportions import paired_variance_floor

        check_pairs(reference, scores)
        before, moves_before = _influences(reference)
        after, moves_after = _influences(scores)
        _, f1, sizes = _f1_of_classes(*pairs(reference))
        # A sample that is lost takes (2 - F1) / size from its class.
        floor = paired_variance_floor(sizes / (2 - f1), np.full(len(sizes), 1 / len(sizes)))
        lost = before - after
        return (lost, *influence_interval(lost, moves_before - moves_after, z, floor))

    def parts(self, scores: "Array") -> Mapping[str, "Array"]:
        """The F1 of each class of the targets: all other classes become one without a value."""
        import numpy as np

        rows = scores.astype(np.int64)
        return {f"class {label}": np.where(rows == label, rows, OTHER).astype(scores.dtype)
                for label in np.unique(rows[:, 0]).tolist() if label != OTHER}


class _Jaccard(NamedTuple):
    """Of the classes that occur: Jaccard indices, samples by target or prediction, and the pairs of
    classes (m, 2), as places in these arrays, that were confused, with their samples."""

    shares: "Array"
    sizes: "Array"
    confused: "Array"
    counts: "Array"


def _f1(jaccard: "Array") -> "Array":
    found: Array = 2 * jaccard / (1 + jaccard)
    return found


def _f1_of_classes(rows: "Array", counts: "Array") -> "tuple[Array, Array, Array]":
    """The classes that occur, the F1 of each, and the sum of its targets and predictions. Raises
    ValueError where none occurs."""
    import numpy as np

    classes = np.unique(rows[rows != OTHER])
    if len(classes) == 0:
        raise ValueError("f1_macro needs a class that occurs in targets or predictions")
    target, found = rows[:, 0] + 1, rows[:, 1] + 1  # OTHER has place 0
    width = int(rows.max()) + 2
    sizes = np.bincount(target, counts, width) + np.bincount(found, counts, width)
    right = np.bincount(target, counts * (target == found), width)
    return classes, 2 * right[classes + 1] / sizes[classes + 1], sizes[classes + 1]


def _value(rows: "Array", counts: "Array") -> float:
    return float(_f1_of_classes(rows, counts)[1].mean())


def _jaccard(rows: "Array", counts: "Array") -> _Jaccard:
    import numpy as np

    classes, f1, sizes = _f1_of_classes(rows, counts)
    shares = f1 / (2 - f1)
    between = (rows[:, 0] != rows[:, 1]) & (rows != OTHER).all(axis=1)
    return _Jaccard(shares, sizes / (1 + shares), np.searchsorted(classes, rows[between]),
                    counts[between])


def _influences(scores: "Array") -> "tuple[float, Array]":
    """The value, and by how much each sample moves it, (n,)."""
    import numpy as np

    rows = scores.astype(np.int64)
    classes, f1, sizes = _f1_of_classes(*pairs(scores))
    per_class, per_size = np.zeros((2, int(rows.max()) + 2))
    per_class[classes + 1], per_size[classes + 1] = f1 / sizes, 1 / sizes
    target, found = rows[:, 0] + 1, rows[:, 1] + 1
    moved = 2 * (target == found) * per_size[target] - per_class[target] - per_class[found]
    return float(f1.mean()), moved / len(classes)
