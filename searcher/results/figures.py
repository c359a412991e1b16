"""The figures of the baseline or of a candidate, and where its metric was computed.

Figures of the metric are those of one place: ``host``, or the device, runtime and provider where
the device's numerics differ. ``front``, ``show``, ``compare`` and the report all read them here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from searcher.errors import UserError
from searcher.ledger.tables import evaluations
from searcher.ledger.tables.evaluations import HOST, Judged
from searcher.ledger.tables.search_state import BaselineState, SearchState
from searcher.spec.objectives import TEST_DROP
from searcher.tasks.scored_split import Interval, ScoredSplit, signed


@dataclass(frozen=True)
class FileFigures:
    """``place`` is where the metric among ``values`` was computed."""

    values: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]
    place: str


@dataclass(frozen=True)
class Judging:
    """How the files of a campaign on one device are judged: its task, and the state of its search,
    which has the metric."""

    task: str
    state: SearchState

    @property
    def place(self) -> str:
        return place_of(self.state.baseline)

    def judged(self, sha256: str, split: str, place: str | None = None) -> Judged:
        return Judged(sha256, self.task, split, place or self.place, self.state.quality.metric)


def place_of(baseline: BaselineState) -> str:
    """Where the metric of a front with this baseline was computed."""
    return HOST if baseline.on_device is None else baseline.on_device.place


def score_of(db: Database, judged: Judged) -> ScoredSplit | None:
    """None where the file was not evaluated. Without scores where the metric cannot be loaded, for
    example because the package of a user's metric is not installed here."""
    found = evaluations.get(db, judged)
    if found is None:
        return None
    interval = None if found.low is None or found.high is None else (found.low, found.high)
    try:
        return ScoredSplit.of(
            found.metric, found.value, found.n, found.scores, found.encoding, interval)
    except UserError:
        return ScoredSplit(found.metric, found.value, found.n, None, interval)


def lost_of(reference: ScoredSplit, scored: ScoredSplit,
            judging: Judging) -> tuple[float, Interval | None]:
    """What ``scored`` loses against ``reference``, positive where it is worse. Without an interval
    where the scores are missing or the metric cannot be loaded."""
    try:
        return reference.drop(scored)
    except UserError:
        return signed(judging.state.quality.direction, reference.value - scored.value), None


def baseline_figures(db: Database, judging: Judging) -> FileFigures:
    baseline = judging.state.baseline
    there = baseline.on_device
    values, intervals = dict(baseline.values), dict(baseline.intervals)
    if there is not None:
        values |= there.values
        intervals |= there.intervals
    return _with_test(db, baseline.sha256, values, intervals, judging, None)


def baseline_test(db: Database, judging: Judging) -> ScoredSplit | None:
    """The metric of the baseline on the test split."""
    return score_of(db, judging.judged(judging.state.baseline.sha256, "test"))


def candidate_figures(
    db: Database, sha256: str | None, values: Mapping[str, float],
    intervals: Mapping[str, Sequence[float]], judging: Judging | None, test: ScoredSplit | None,
) -> FileFigures:
    """``values`` and ``intervals`` as the trial has them, joint measurement included. ``test`` is
    the baseline's score on the test split.

    A candidate that is not on the front may have figures of the host only.
    """
    if sha256 is None or judging is None or (
            judging.place != HOST
            and evaluations.get(db, judging.judged(sha256, "validation")) is None):
        return FileFigures(values, intervals, HOST)
    return _with_test(db, sha256, values, intervals, judging, test)


def _with_test(
    db: Database, sha256: str, values: Mapping[str, float],
    intervals: Mapping[str, Sequence[float]], judging: Judging, reference: ScoredSplit | None,
) -> FileFigures:
    """With the metric on the test split, if it was computed, and what was lost there."""
    test, name = score_of(db, judging.judged(sha256, "test")), judging.state.quality.test_name
    if test is None:
        return FileFigures(values, intervals, judging.place)
    values = {**values, name: test.value}
    if test.interval is not None:
        intervals = {**intervals, name: list(test.interval)}
    if reference is not None:
        lost, interval = lost_of(reference, test, judging)
        values[TEST_DROP] = lost
        if interval is not None:
            intervals = {**intervals, TEST_DROP: list(interval)}
    return FileFigures(values, intervals, judging.place)
