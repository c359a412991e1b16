"""The mean recall over classes, for classes of unequal size (Brodersen et al. 2010)."""

from typing import TYPE_CHECKING

from searcher.tasks.metrics.base import Z_95, Metric, Total, check_pairs
from searcher.tasks.metrics.confusion import PairTotal, label_rows, pairs

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array


class BalancedAccuracy(Metric):
    """The mean, over the classes that occur in the targets, of the share of their samples that are
    right."""

    name = "balanced_accuracy"
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
        """Each recall moves to its Wilson limit by its part in the variance
        (``searcher.statistics.proportions``)."""
        import numpy as np

        from searcher.statistics.proportions import extreme_shares, unbiased_variances

        recalls, sizes = _recalls(*pairs(scores))
        weights = np.full(len(sizes), 1 / len(sizes))
        low, high = extreme_shares(
            recalls, sizes, weights, unbiased_variances(recalls, sizes), None, z)
        return float(low.mean()), float(high.mean())

    def difference(self, reference: "Array", scores: "Array",
                   z: float = Z_95) -> tuple[float, float, float]:
        """As ``interval``, of the shares that were lost and won in each class."""
        import numpy as np

        from searcher.statistics.proportions import extreme_shares, unbiased_variances

        check_pairs(reference, scores)
        target = scores[:, 0].astype(np.int64)
        before, after = reference[:, 1] == target, scores[:, 1] == target
        sizes = np.bincount(target).astype(float)
        occurs = sizes > 0
        sizes = sizes[occurs]
        lost = np.bincount(target, before & ~after)[occurs] / sizes
        won = np.bincount(target, after & ~before)[occurs] / sizes
        k = len(sizes)
        shares, twice = np.concatenate([lost, won]), np.concatenate([sizes, sizes])
        weights = np.concatenate([np.full(k, 1 / k), np.full(k, -1 / k)])
        variances = np.concatenate([unbiased_variances(lost, sizes),
                                    unbiased_variances(won, sizes)])
        # Lost and won are shares of the same samples: their covariance is -lost * won / size.
        shared = np.concatenate([lost * won / sizes, -lost * won / sizes]) / k
        low, high = extreme_shares(shares, twice, weights, variances, shared, z)
        value = float((weights * shares).sum())
        return value, float((weights * low).sum()), float((weights * high).sum())


def _recalls(rows: "Array", counts: "Array") -> "tuple[Array, Array]":
    """Recall and number of samples of each class that occurs."""
    import numpy as np

    sizes = np.bincount(rows[:, 0], counts)
    right = np.bincount(rows[:, 0], counts * (rows[:, 0] == rows[:, 1]))
    return right[sizes > 0] / sizes[sizes > 0], sizes[sizes > 0]


def _value(rows: "Array", counts: "Array") -> float:
    return float(_recalls(rows, counts)[0].mean())
