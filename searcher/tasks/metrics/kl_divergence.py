"""How much of the uncompressed model's probabilities a file loses (Kullback and Leibler 1951)."""

from typing import TYPE_CHECKING

from searcher.tasks.metrics.against_reference import AgainstReference
from searcher.tasks.metrics.answers import log_probabilities

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array


class KlDivergence(AgainstReference):
    """The mean of KL(reference || file) in nats, of the softmax over axis 1, or of the sigmoid of
    one logit; for pixels, the mean over a sample's pixels."""

    name = "kl_divergence"
    unit = "nats"
    direction = "minimize"

    def compared(self, outputs: "Array", reference: "Array") -> "Array":
        """The divergence of outputs (n, classes, *size)."""
        import numpy as np

        wanted, found = log_probabilities(reference), log_probabilities(outputs)
        divergence = (np.exp(wanted) * (wanted - found)).sum(axis=1)
        means: Array = divergence.reshape(len(divergence), -1).mean(axis=1)
        return np.maximum(means, 0.0)  # rounding may leave less
