"""How often a file decides as the uncompressed model does (Fort et al. 2019)."""

from typing import TYPE_CHECKING

from searcher.tasks.metrics.against_reference import AgainstReference
from searcher.tasks.metrics.answers import predicted
from searcher.tasks.metrics.base import Z_95

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array


class Agreement(AgainstReference):
    """The share of samples whose largest output is that of the uncompressed model; for one logit,
    whose sign is; for pixels, the mean share of a sample's pixels."""

    name = "agreement"
    unit = "share"
    direction = "maximize"

    def compared(self, outputs: "Array", reference: "Array") -> "Array":
        """The share of equal decisions in outputs (n, classes, *size)."""
        equal = predicted(outputs) == predicted(reference)
        found: Array = equal.reshape(len(equal), -1).mean(axis=1)
        return found

    def interval(self, scores: "Array", z: float = Z_95) -> tuple[float, float]:
        """Wilson's where each sample agrees or not (Wilson 1927), else that of a mean."""
        from searcher.statistics.intervals import wilson

        if not _is_decided(scores):
            return super().interval(scores, z)
        return wilson(int(scores[:, 0].sum(dtype=float)), len(scores), z)

    def difference(self, reference: "Array", scores: "Array",
                   z: float = Z_95) -> tuple[float, float, float]:
        """That of Agresti and Min (2005) where each sample agrees or not, else that of a mean."""
        from searcher.statistics.intervals import paired_difference

        if not (_is_decided(reference) and _is_decided(scores)):
            return super().difference(reference, scores, z)
        return paired_difference(reference[:, 0], scores[:, 0], z)


def _is_decided(scores: "Array") -> bool:
    return bool(((scores[:, 0] == 0) | (scores[:, 0] == 1)).all())
