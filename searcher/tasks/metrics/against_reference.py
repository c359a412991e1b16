"""What metrics against the uncompressed model have in common: they need no labels."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from searcher.tasks.metrics.answers import check_finite, log_probabilities, numbers, pieces
from searcher.tasks.metrics.base import Z_95, MeanTotal, Metric, Total

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array

CONFIDENT = "confident samples"


class AgainstReference(Metric):
    """The mean of one score per sample, over all samples; ``parts`` has those for which the largest
    probability of the reference, for pixels its mean over the sample, is at least ``confident``."""

    against = "reference"

    def __init__(self, *, confident: float = 0.8) -> None:
        if isinstance(confident, bool) or not isinstance(confident, int | float) or not (
                0 <= confident <= 1):
            raise ValueError(f"confident is {confident!r}; expected a probability from 0 to 1")
        self.confident = float(confident)

    @abstractmethod
    def compared(self, outputs: "Array", reference: "Array") -> "Array":
        """One score per sample (n,), from outputs (n, ...) of two models, finite and of equal
        shape."""

    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """(n, 2) float32: the score, and 1 where the reference is confident. ``targets`` are the
        outputs of the reference, of the shape of ``outputs``."""
        import numpy as np

        found = numbers(outputs, targets, self.name)
        reference = np.asarray(targets)
        if found.shape != reference.shape:
            raise ValueError(f"outputs have shape {found.shape}, those of the uncompressed model "
                             f"{reference.shape}; {self.name} needs equal shapes")
        check_finite(reference, "output of the uncompressed model")
        rows = np.empty((len(found), 2), np.float32)
        for part in pieces(found):
            rows[part, 0] = self.compared(found[part], reference[part])
            rows[part, 1] = _confidence(reference[part]) >= self.confident
        return rows

    def value(self, scores: "Array") -> float:
        return float(scores[:, 0].mean(dtype=float))

    def total(self) -> Total:
        return _FirstColumn()

    def interval(self, scores: "Array", z: float = Z_95) -> tuple[float, float]:
        return super().interval(scores[:, 0], z)

    def difference(self, reference: "Array", scores: "Array",
                   z: float = Z_95) -> tuple[float, float, float]:
        return super().difference(reference[:, 0], scores[:, 0], z)

    def parts(self, scores: "Array") -> Mapping[str, "Array"]:
        confident = scores[scores[:, 1] > 0]
        return {CONFIDENT: confident} if len(confident) else {}


class _FirstColumn(MeanTotal):
    def add(self, scores: "Array") -> None:
        super().add(scores[:, 0])


def _confidence(reference: "Array") -> "Array":
    """The largest probability of each sample (n,), for pixels its mean."""
    import numpy as np

    largest = np.exp(log_probabilities(reference).max(axis=1))
    found: Array = largest.reshape(len(reference), -1).mean(axis=1)
    return found
