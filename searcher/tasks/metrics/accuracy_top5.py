"""Top-5 accuracy of a classifier of many classes."""

from typing import TYPE_CHECKING

from searcher.tasks.metrics.accuracy import Accuracy
from searcher.tasks.metrics.answers import class_logits, labels

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array

TOP = 5


class AccuracyTop5(Accuracy):
    """The share of samples whose target is among the five largest outputs."""

    name = "accuracy_top5"

    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """True where fewer than five ``outputs`` (n, classes) come before that of ``targets``
        (n,); of equal outputs, the lower class comes first, as in ``argmax``."""
        import numpy as np

        logits = class_logits(outputs, targets, self.name)
        classes = logits.shape[1]
        if classes <= TOP:
            raise ValueError(f"outputs have {classes} classes; {self.name} needs more than {TOP}. "
                             "Use metric \"accuracy\"")
        wanted = labels(targets, (len(logits),), classes, self.name)[:, None]
        own = np.take_along_axis(logits, wanted, axis=1)
        before = (logits > own) | ((logits == own) & (np.arange(classes) < wanted))
        right: Array = before.sum(axis=1) < TOP
        return right
