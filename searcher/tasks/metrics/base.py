"""What a task is judged by: one score per sample, and what follows from the scores.

A metric is one file in this folder and one line of its registry, or an entry point
``fleetfront.metrics``. It describes and counts results that exist; it needs no torch, and numpy
only when it is called.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Z_95 = 1.959964


class Metric(ABC):
    """One number for a model on a split, from one score per sample. Stateless."""

    name: ClassVar[str]
    unit: ClassVar[str]
    """``share`` for numbers from 0 to 1."""
    direction: ClassVar[Literal["maximize", "minimize"]]

    @abstractmethod
    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """One value per sample, (n,), from model outputs (n, ...) and targets (n, ...). Raises
        ValueError when the shapes do not fit."""

    def value(self, scores: "Array") -> float:
        """The number of a whole split: the mean score."""
        return float(scores.mean())

    def interval(self, scores: "Array") -> tuple[float, float]:
        """The 95 % interval of ``value``: the normal approximation of the mean."""
        value, half = self.value(scores), _half_width(scores)
        return value - half, value + half

    def difference(self, reference: "Array", scores: "Array") -> tuple[float, float, float]:
        """``value(reference) - value(scores)`` over the same samples, and its 95 % interval.
        Raises ValueError when the samples differ in number."""
        if reference.shape != scores.shape:
            raise ValueError(
                f"paired samples differ in number: {reference.shape} and {scores.shape}")
        lost = reference.astype(float) - scores.astype(float)
        half = _half_width(lost)
        return float(lost.mean()), float(lost.mean()) - half, float(lost.mean()) + half


def _half_width(values: "Array") -> float:
    if len(values) < 2:
        return float("inf")
    return float(Z_95 * values.astype(float).std(ddof=1) / len(values) ** 0.5)
