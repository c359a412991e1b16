"""Accuracy of a classifier of two classes with one logit."""

from typing import TYPE_CHECKING

from searcher.tasks.metrics.accuracy import Accuracy
from searcher.tasks.metrics.answers import is_logit, labels, numbers, predicted

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array


class BinaryAccuracy(Accuracy):
    """The share of samples whose logit is positive where the target is 1, and only there."""

    name = "binary_accuracy"
    answer = "logit"

    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """True where the sign of ``outputs`` (n,) or (n, 1) tells ``targets`` (n,) or (n, 1), each
        0 or 1."""
        logits = numbers(outputs, targets, self.name)
        if logits.ndim > 2 or not is_logit(logits):
            raise ValueError(
                f"outputs have shape {logits.shape}; {self.name} needs one logit per sample, (n,) "
                "or (n, 1). Use metric \"accuracy\" for one output per class")
        right: Array = predicted(logits) == labels(targets, (len(logits),), 2, self.name)
        return right
