"""How far a file's outputs point where those of the uncompressed model point."""

from typing import TYPE_CHECKING

from searcher.tasks.metrics.against_reference import AgainstReference

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array


class OutputCosine(AgainstReference):
    """The mean cosine of the angle between the outputs of a sample and those of the uncompressed
    model, each as one vector: 1 where they differ by a positive factor. Two vectors of zeros have
    cosine 1, a vector of zeros and another one 0. Outputs that are no logits have no confidence:
    ``confident=0`` counts every sample."""

    name = "output_cosine"
    unit = "cosine"
    direction = "maximize"
    answer = "values"

    def compared(self, outputs: "Array", reference: "Array") -> "Array":
        """The cosine of outputs (n, ...)."""
        import numpy as np

        one, two = _directions(outputs), _directions(reference)
        cosines = np.clip((one * two).sum(axis=1), -1.0, 1.0)
        both_zero = ~one.any(axis=1) & ~two.any(axis=1)
        found: Array = np.where(both_zero, 1.0, cosines)
        return found


def _directions(outputs: "Array") -> "Array":
    """Unit vectors (n, width); those of zeros stay so."""
    import numpy as np

    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = rows / np.where(largest > 0, largest, 1.0)
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    found: Array = rows / np.where(length > 0, length, 1.0)
    return found
