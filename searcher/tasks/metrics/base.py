"""What a task is judged by: one row of scores per sample, and what follows from the rows.

A metric is one file in this folder and one line of its registry, or an entry point
``fleetfront.metrics``. It describes and counts results that exist; it needs no torch, and numpy
only when it is called.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from searcher.statistics.score_codec import LARGEST_SCORES_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Z_95 = 1.959964

Direction = Literal["maximize", "minimize"]
Answer = Literal["classes", "logit", "values"]
"""What a model's output holds, for losses against another model's outputs: ``classes`` are logits
with the classes on axis 1, ``logit`` one logit for two classes, ``values`` are numbers."""


class SampleError(ValueError):
    """One sample's output or target is wrong. ``sample`` counts from 0, within the batch until
    ``scoring`` adds the batch's start; ``why`` says what was found and what is expected."""

    def __init__(self, sample: int, why: str) -> None:
        super().__init__(f"sample {sample}: {why}")
        self.sample, self.why = sample, why


class Total(ABC):
    """The value of a split whose rows are too large to keep: it takes them batch by batch."""

    @abstractmethod
    def add(self, scores: "Array") -> None:
        """The rows of one batch, as ``Metric.scores`` gives them."""

    @abstractmethod
    def value(self) -> float:
        """``Metric.value`` of all rows that were added. Raises ValueError where they have none."""


class Metric(ABC):
    """One number for a model on a split, from one row of scores per sample. Stateless: parameters
    are keyword arguments of ``__init__``.

    A row is one number whose mean is the metric's value, or, for a metric that does not average,
    a state of fixed width from which the value of any selection of samples follows.
    """

    name: str
    unit: str
    """``share`` for numbers from 0 to 1."""
    direction: Direction
    scale: float | None = 1.0
    """A difference that counts as large, in ``unit``: 1 for shares. None: the magnitude of the
    baseline's value."""
    answer: Answer = "classes"
    """One column of outputs is a logit, whatever the metric says."""
    against: ClassVar[Literal["targets", "reference"]] = "targets"
    """What outputs are compared with: the data's targets, or the outputs of the uncompressed
    model."""

    text: str = ""
    """The metric with its parameters, as ``registry.named`` reads it, which sets it."""

    @abstractmethod
    def scores(self, outputs: "Array", targets: "Array") -> "Array":
        """One row per sample, (n,) or (n, width), from model outputs (n, ...) and, by
        ``against``, targets or outputs of the reference (n, ...). Computed batch by batch. Raises
        ValueError that says what was found and what is expected when the shapes or types do not
        fit."""

    def value(self, scores: "Array") -> float:
        """The number of a whole split: the mean score."""
        return float(scores.mean())

    def total(self) -> Total:
        """Computes ``value`` batch by batch. A metric with a ``value`` of its own and rows of many
        bytes overrides it. Raises ValueError where ``value`` cannot be computed so."""
        if type(self).value is not Metric.value:
            raise ValueError(
                f"The rows of {self.name} for this split take more than "
                f"{LARGEST_SCORES_BYTES / 2**20:g} MiB, and {type(self).__name__} has no total(). "
                "Give it one, give it smaller rows, or make the split smaller.")
        return MeanTotal()

    def interval(self, scores: "Array", z: float = Z_95) -> tuple[float, float]:
        """The interval of ``value`` at ``z`` standard deviations, 95 % by default: that of a mean,
        corrected for skewness (``searcher.statistics.means``)."""
        from searcher.statistics.means import mean_interval

        low, high = mean_interval(scores, z, self.scale or 1.0)
        return (max(low, 0.0), min(high, 1.0)) if self.unit == "share" else (low, high)

    def difference(self, reference: "Array", scores: "Array",
                   z: float = Z_95) -> tuple[float, float, float]:
        """``value(reference) - value(scores)`` over the same samples, and its interval. Raises
        ValueError when the samples differ in number."""
        from searcher.statistics.means import mean_interval

        check_pairs(reference, scores)
        lost = reference.astype(float) - scores.astype(float)
        return (float(lost.mean()), *mean_interval(lost, z, self.scale or 1.0))

    def parts(self, scores: "Array") -> Mapping[str, "Array"]:
        """Rows of parts of the whole, by name, such as the classes of a picture's pixels:
        ``value``, ``interval`` and ``difference`` take them as they take all rows. A part that has
        no value is left out; of two models, compare the names that both have. Empty where a sample
        belongs to one class: its rows are selected by its target."""
        return {}


class MeanTotal(Total):
    """The mean of all scores."""

    def __init__(self) -> None:
        self._sum, self._n = 0.0, 0

    def add(self, scores: "Array") -> None:
        self._sum += float(scores.sum(dtype=float))
        self._n += scores.size

    def value(self) -> float:
        return self._sum / self._n


def check_pairs(reference: "Array", scores: "Array") -> None:
    """Raises ValueError where two arrays of rows do not belong to the same samples."""
    if reference.shape != scores.shape:
        raise ValueError(
            f"paired samples differ in number: {reference.shape} and {scores.shape}")
