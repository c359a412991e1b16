"""Top-1 accuracy of a classifier."""

from typing import TYPE_CHECKING

from searcher.tasks.metrics.answers import class_logits, labels
from searcher.tasks.metrics.base import Z_95, Metric

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array


class Accuracy(Metric):
    """The share of samples whose largest output is the target's."""

    name = "accuracy"
    unit = "share"
    direction = "maximize"

    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """True where ``outputs`` (n, classes) are largest at ``targets`` (n,)."""
        logits = class_logits(outputs, targets, self.name)
        right: Array = logits.argmax(axis=1) == labels(
            targets, (len(logits),), logits.shape[1], self.name)
        return right

    def interval(self, scores: "Array", z: float = Z_95) -> tuple[float, float]:
        """Wilson's interval of a proportion (Wilson 1927)."""
        from searcher.statistics.intervals import wilson

        return wilson(int(scores.sum()), len(scores), z)

    def difference(self, reference: "Array", scores: "Array",
                   z: float = Z_95) -> tuple[float, float, float]:
        """The interval of Agresti and Min (2005) for paired proportions."""
        from searcher.statistics.intervals import paired_difference

        return paired_difference(reference, scores, z)
