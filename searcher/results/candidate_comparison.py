"""Two candidates side by side: what differs by more than chance."""

from dataclasses import asdict, dataclass

from sqlite_utils import Database

from searcher.errors import UserError
from searcher.ledger.rows import LabelsRow
from searcher.ledger.tables import evaluations
from searcher.ledger.tables.evaluations import HOST
from searcher.results.class_losses import ClassLoss, worst_losses
from searcher.results.figures import (
    FileFigures,
    Judging,
    baseline_figures,
    lost_of,
    score_of,
)
from searcher.results.view import Reading
from searcher.spec.objectives import Quality
from searcher.statistics.latency import EQUAL
from searcher.statistics.sample_labels import Kind, SampleLabels
from searcher.statistics.score_codec import unpack
from searcher.tasks.metrics import registry as metrics
from searcher.tasks.scored_split import ScoredSplit

COSTS = ("latency_s", "latency_p99_s", "file_bytes", "memory_bytes", "macs")


@dataclass(frozen=True)
class ComparedSide:
    """The baseline or a candidate."""

    name: str
    figures: FileFigures
    sha256: str | None


@dataclass(frozen=True)
class ComparedFigure:
    """``difference`` is second minus first; of the metric over the same samples, with its 95 %
    ``interval`` where the scores of the samples are known. ``ratio`` is second over first, of
    costs. ``verdict`` says of the second: better, worse, equal or undecided."""

    name: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    ratio: float | None
    verdict: str


@dataclass(frozen=True)
class CandidateComparison:
    """``quality`` says how the metric's figures read; they were computed at ``quality_place``.
    ``classes`` are the classes or groups that lost most."""

    campaign: str
    first: str
    second: str
    figures: tuple[ComparedFigure, ...]
    quality: Quality
    quality_place: str
    classes: tuple[ClassLoss, ...] = ()

    def as_document(self) -> dict[str, object]:
        """Plain JSON: what ``fleetfront compare --format json`` prints."""
        return asdict(self)


def side_of(reading: Reading, campaign: str, name: str, judging: Judging) -> ComparedSide:
    """``baseline``, a number, or ``campaign/number``. Raises UserError."""
    if name == "baseline":
        with reading.ledger() as db:
            return ComparedSide(name, baseline_figures(db, judging), judging.state.baseline.sha256)
    found = reading.candidate(name if "/" in name else f"{campaign}/{name}")
    if found.trial.campaign != campaign:
        raise UserError(f"Candidate {name!r} is of another campaign than {campaign!r}.")
    return ComparedSide(found.name, found.figures, found.trial.sha256)


def compare(reading: Reading, campaign: str | None, first: str,
            second: str) -> CandidateComparison:
    """What ``second`` has more or less than ``first``, figure by figure. Raises UserError.

    Figures of the metric are those of the place of both sides; where one has none of the device's,
    those of the host.
    """
    row, spec = reading.campaign(campaign)
    state = reading.search_states(row.name).get(spec.devices[0])
    if state is None:
        raise UserError(f"Campaign {row.name} has no measured baseline yet; "
                        "see `fleetfront status`.")
    judging, quality = Judging(spec.task, state), state.quality
    a, b = (side_of(reading, row.name, name, judging) for name in (first, second))
    place = a.figures.place if a.figures.place == b.figures.place else HOST
    figures: list[ComparedFigure] = []
    classes: list[ClassLoss] = []
    for name, split in ((quality.name, "validation"), (quality.test_name, "test")):
        with reading.ledger() as db:
            one, other = (_score(db, judging, side.sha256, split, place) for side in (a, b))
            if one is None or other is None or one.n != other.n:
                continue
            figures.append(_figure(name, one, other, judging))
            classes += _classes(split, one, other, _labels(db, judging, (a, b), split))
    figures += [_cost(name, a.figures, b.figures) for name in COSTS
                if name in a.figures.values and name in b.figures.values]
    return CandidateComparison(
        row.name, a.name, b.name, tuple(figures), quality, place, tuple(classes))


def _score(db: Database, judging: Judging, sha256: str | None, split: str,
           place: str) -> ScoredSplit | None:
    return None if sha256 is None else score_of(db, judging.judged(sha256, split, place))


def _figure(name: str, one: ScoredSplit, other: ScoredSplit, judging: Judging) -> ComparedFigure:
    lost, interval = lost_of(one, other, judging)
    sign = -1.0 if judging.state.quality.direction == "maximize" else 1.0
    if interval is None:
        return ComparedFigure(name, one.value, other.value, sign * lost, None, None, "undecided")
    low, high = interval
    verdict = "worse" if low > 0 else "better" if high < 0 else "undecided"
    ends = sorted((sign * low, sign * high))
    return ComparedFigure(
        name, one.value, other.value, sign * lost, (ends[0], ends[1]), None, verdict)


def _classes(split: str, one: ScoredSplit, other: ScoredSplit,
             labels: list[SampleLabels]) -> list[ClassLoss]:
    try:
        metric = metrics.named(one.metric)
    except UserError:
        return []  # the metric's package is not installed here; the values stand above
    return worst_losses(metric, split, one, other, labels)


def _labels(db: Database, judging: Judging, sides: tuple[ComparedSide, ComparedSide],
            split: str) -> list[SampleLabels]:
    """Labels of the split's samples, from the first evaluation that has any. Evaluations of
    trainings have none; those of the baseline and of the test split have."""
    for sha256 in (*(side.sha256 for side in sides), judging.state.baseline.sha256):
        for place in (judging.place, HOST):
            found = sha256 and evaluations.get(db, judging.judged(sha256, split, place))
            rows = evaluations.labels(db, found.id) if found else []
            if rows:
                return [_unpacked(row) for row in rows]
    return []


def _unpacked(row: LabelsRow) -> SampleLabels:
    kind: Kind = "group" if row.kind == "group" else "class"
    return SampleLabels(kind, tuple(row.names), unpack(row.codes, row.encoding, row.n))


def _cost(name: str, a: FileFigures, b: FileFigures) -> ComparedFigure:
    one, other = a.values[name], b.values[name]
    low, high = a.intervals.get(name, (one, one))
    below, above = b.intervals.get(name, (other, other))
    if abs(other - one) < EQUAL * one:
        verdict = "equal"
    elif above < low or below > high:
        verdict = "better" if other < one else "worse"
    else:
        verdict = "undecided"
    return ComparedFigure(
        name, one, other, other - one, None, other / one if one else None, verdict)
