"""Two candidates side by side: what differs by more than chance."""

from dataclasses import asdict, dataclass

from searcher.errors import UserError
from searcher.ledger.tables import builds
from searcher.results.figures import FileFigures, baseline_figures, score_of
from searcher.results.view import Reading
from searcher.statistics.intervals import paired_difference
from searcher.statistics.latency import EQUAL

COSTS = ("latency_s", "latency_p99_s", "file_bytes", "memory_bytes", "macs")
SPLITS = {"accuracy": "validation", "accuracy_test": "test"}


@dataclass(frozen=True)
class ComparedSide:
    """The baseline or a candidate."""

    name: str
    figures: FileFigures
    sha256: str | None


@dataclass(frozen=True)
class ComparedFigure:
    """``difference`` is second minus first; of an accuracy over the same samples, with its 95 %
    ``interval``. ``ratio`` is second over first, of costs. ``verdict`` says of the second: better,
    worse, equal or undecided."""

    name: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    ratio: float | None
    verdict: str


@dataclass(frozen=True)
class CandidateComparison:
    """Accuracies of both sides were computed at ``accuracy_place``."""

    campaign: str
    first: str
    second: str
    figures: tuple[ComparedFigure, ...]
    accuracy_place: str

    def as_document(self) -> dict[str, object]:
        """Plain JSON: what ``fleetfront compare --format json`` prints."""
        return asdict(self)


def side_of(reading: Reading, campaign: str, name: str) -> ComparedSide:
    """``baseline``, a number, or ``campaign/number``. Raises UserError."""
    if name == "baseline":
        _, spec = reading.campaign(campaign)
        state = reading.search_states(campaign).get(spec.devices[0])
        if state is None:
            raise UserError(f"Campaign {campaign} has no measured baseline yet; "
                            "see `fleetfront status`.")
        with reading.ledger() as db:
            return ComparedSide(name, baseline_figures(db, state.baseline), state.baseline.sha256)
    found = reading.candidate(name if "/" in name else f"{campaign}/{name}")
    if found.trial.campaign != campaign:
        raise UserError(f"Candidate {name!r} is of another campaign than {campaign!r}.")
    return ComparedSide(found.name, found.figures, found.trial.sha256)


def compare(reading: Reading, campaign: str | None, first: str,
            second: str) -> CandidateComparison:
    """What ``second`` has more or less than ``first``, figure by figure. Raises UserError.

    Accuracies are those of the place of both sides; where one has none of the device's, those of
    the host.
    """
    row, _ = reading.campaign(campaign)
    a, b = side_of(reading, row.name, first), side_of(reading, row.name, second)
    place = a.figures.place if a.figures.place == b.figures.place else builds.HOST
    figures = [_accuracy(reading, name, split, a, b, place) for name, split in SPLITS.items()]
    figures += [_cost(name, a.figures, b.figures) for name in COSTS
                if name in a.figures.values and name in b.figures.values]
    return CandidateComparison(
        row.name, a.name, b.name, tuple(f for f in figures if f is not None), place)


def _accuracy(reading: Reading, name: str, split: str, a: ComparedSide, b: ComparedSide,
              place: str) -> ComparedFigure | None:
    with reading.ledger() as db:
        one, other = (score_of(db, side.sha256, split, place) for side in (a, b))
    if one is None or other is None or len(one.correct) != len(other.correct):
        return None
    lost, low, high = paired_difference(one.correct, other.correct)
    verdict = "worse" if low > 0 else "better" if high < 0 else "undecided"
    return ComparedFigure(name, one.value, other.value, -lost, (-high, -low), None, verdict)


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
