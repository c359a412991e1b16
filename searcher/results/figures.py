"""The figures of the baseline or of a candidate, and where its accuracies were computed.

Accuracies are those of one place: ``host``, or the device, runtime and provider where the device's
numerics differ. ``front``, ``show``, ``compare`` and the report all read them here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlite_utils import Database

from searcher.ledger.tables import builds
from searcher.ledger.tables.search_state import BaselineState
from searcher.statistics.intervals import paired_difference, unpack_bits, wilson


@dataclass(frozen=True)
class FileFigures:
    """``place`` is where the accuracies among ``values`` were computed."""

    values: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]
    place: str


@dataclass(frozen=True)
class SplitScore:
    """The metric of one file on one split; ``correct`` has one boolean per sample."""

    value: float
    correct: np.ndarray

    @property
    def interval(self) -> list[float]:
        return list(wilson(int(self.correct.sum()), len(self.correct)))


def place_of(baseline: BaselineState | None) -> str:
    """Where the accuracies of a front with this baseline were computed."""
    there = None if baseline is None else baseline.on_device
    return builds.HOST if there is None else there.place


def score_of(db: Database, sha256: str | None, split: str, place: str) -> SplitScore | None:
    """None where the file was not evaluated on this split at this place."""
    found = None if sha256 is None else builds.evaluation(db, sha256, split, place)
    return None if found is None else SplitScore(found.value, unpack_bits(found.correct, found.n))


def baseline_figures(db: Database, baseline: BaselineState) -> FileFigures:
    there = baseline.on_device
    values, intervals = dict(baseline.values), dict(baseline.intervals)
    if there is not None:
        values |= there.values
        intervals |= there.intervals
    return _with_test(db, baseline.sha256, values, intervals, place_of(baseline), None)


def candidate_figures(
    db: Database, sha256: str | None, values: Mapping[str, float],
    intervals: Mapping[str, Sequence[float]], baseline: BaselineState | None,
    baseline_test: SplitScore | None,
) -> FileFigures:
    """``values`` and ``intervals`` as the trial has them, joint measurement included.
    ``baseline_test`` is the baseline's score on the test split, at the place of ``baseline``.

    A candidate that is not on the front may have accuracies of the host only.
    """
    place = place_of(baseline)
    if place != builds.HOST and (
            sha256 is None or builds.evaluation(db, sha256, "validation", place) is None):
        return FileFigures(values, intervals, builds.HOST)
    return _with_test(db, sha256, values, intervals, place, baseline_test)


def _with_test(
    db: Database, sha256: str | None, values: Mapping[str, float],
    intervals: Mapping[str, Sequence[float]], place: str, baseline_test: SplitScore | None,
) -> FileFigures:
    """With the accuracy on the test split, if it was computed, and what was lost there."""
    test = score_of(db, sha256, "test", place)
    if test is None:
        return FileFigures(values, intervals, place)
    values = {**values, "accuracy_test": test.value}
    intervals = {**intervals, "accuracy_test": test.interval}
    if baseline_test is not None:
        drop, low, high = paired_difference(baseline_test.correct, test.correct)
        values["accuracy_test_drop"] = drop
        intervals["accuracy_test_drop"] = [low, high]
    return FileFigures(values, intervals, place)
