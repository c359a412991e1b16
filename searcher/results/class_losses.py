"""What an average hides: the class or group of samples that lost most between two files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.special import ndtri  # importing scipy.stats takes a second longer

from searcher.errors import TaskError
from searcher.statistics.sample_labels import SampleLabels
from searcher.tasks.metrics.base import Metric
from searcher.tasks.scored_split import ScoredSplit, drop_of

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Array

CONFIDENCE = 0.95


@dataclass(frozen=True)
class ClassLoss:
    """The class, group or part (``kind``) ``name`` of ``n`` samples that lost most of ``compared``
    ones on ``split``.

    ``lost`` is positive where the second file is worse. The ``interval``s of all ``compared`` ones
    hold together with a probability of 95 %: each is widened by Bonferroni's correction. It is
    None for a class of too few samples.
    """

    split: str
    kind: str
    name: str
    n: int
    compared: int
    first: float
    second: float
    lost: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class _Pair:
    """The scores of one class of both files."""

    name: str
    n: int
    first: "Array"
    second: "Array"


def worst_losses(metric: Metric, split: str, first: ScoredSplit, second: ScoredSplit,
                 labels: Sequence[SampleLabels]) -> list[ClassLoss]:
    """For each kind of ``labels``, and for the parts of the metric, what lost most. Nothing has an
    entry without scores."""
    if first.scores is None or second.scores is None or first.scores.shape != second.scores.shape:
        return []
    found = [_worst(metric, split, kind, pairs)
             for kind, pairs in _kinds(metric, first.scores, second.scores, labels)]
    return [loss for loss in found if loss is not None]


def bonferroni_z(compared: int) -> float:
    """The standard deviations of each of ``compared`` intervals that hold together at 95 %."""
    return float(-ndtri((1 - CONFIDENCE) / 2 / compared))


def _kinds(metric: Metric, first: "Array", second: "Array", labels: Sequence[SampleLabels]
           ) -> Iterator[tuple[str, list[_Pair]]]:
    """Kinds of labels with at least two members, then the parts of the metric."""
    parts, others = metric.parts(first), metric.parts(second)
    for one in labels:
        # A part counts all samples of its class, also those that are taken for it.
        has_parts = any(f"{one.kind} {name}" in parts for name in one.names)
        samples = one.samples()
        if len(one.codes) == len(first) and len(samples) > 1 and not has_parts:
            yield one.kind, [_Pair(name, len(rows), first[rows], second[rows])
                             for name, rows in samples.items()]
    yield "part", [_Pair(name, len(rows), rows, others[name]) for name, rows in parts.items()
                   if name in others and rows.shape == others[name].shape]


def _worst(metric: Metric, split: str, kind: str, pairs: Sequence[_Pair]) -> ClassLoss | None:
    """None where nothing has a value."""
    import numpy as np

    z = bonferroni_z(max(len(pairs), 1))
    losses = []
    for pair in pairs:
        try:
            lost, interval = drop_of(metric, pair.first, pair.second, z)
            ends = metric.value(pair.first), metric.value(pair.second)
        except (TaskError, ValueError):
            continue  # a metric may have no value for the samples of one class
        if np.isfinite([lost, *ends]).all():
            losses.append(ClassLoss(split, kind, pair.name, pair.n, len(pairs), *ends, lost,
                                    interval))
    return max(losses, key=lambda loss: loss.lost, default=None)
