"""Two candidates side by side: what differs by more than chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from searcher.errors import UserError
from searcher.ledger.tables import builds
from searcher.results.view import Reading, unpack
from searcher.statistics.intervals import paired_difference
from searcher.statistics.latency import EQUAL

COSTS = ("latency_s", "latency_p99_s", "file_bytes", "memory_bytes", "macs")
SPLITS = {"accuracy": "validation", "accuracy_test": "test"}


@dataclass(frozen=True)
class Side:
    """The baseline or a candidate."""

    name: str
    values: Mapping[str, float]
    intervals: Mapping[str, list[float]]
    sha256: str | None


def side_of(reading: Reading, campaign: str, name: str) -> Side:
    """``baseline``, a number, or ``campaign/number``. Raises UserError."""
    if name == "baseline":
        point = reading.front(campaign)["baseline"]
        return Side(name, point["values"], point["intervals"], point["sha256"])
    found = reading.candidate(name if "/" in name else f"{campaign}/{name}")
    if found.trial.campaign != campaign:
        raise UserError(f"Candidate {name!r} is of another campaign than {campaign!r}.")
    return Side(found.name, found.values, found.intervals, found.trial.sha256)


def compare(reading: Reading, campaign: str | None, first: str, second: str) -> dict[str, Any]:
    """The document of ``fleetfront compare``: per figure both values, the second relative to the
    first (accuracies: absolute, over the same samples, with a 95 % interval), and whether the
    second is better, worse, equal, or that is undecided. Raises UserError."""
    row, _ = reading.campaign(campaign)
    a, b = side_of(reading, row.name, first), side_of(reading, row.name, second)
    figures = [_accuracy(reading, name, split, a, b) for name, split in SPLITS.items()]
    figures += [_cost(name, a, b) for name in COSTS if name in a.values and name in b.values]
    return {"campaign": row.name, "first": a.name, "second": b.name,
            "figures": [figure for figure in figures if figure is not None]}


def _accuracy(reading: Reading, name: str, split: str, a: Side, b: Side) -> dict[str, Any] | None:
    with reading.ledger() as db:
        found = [builds.evaluation(db, side.sha256, split) if side.sha256 else None
                 for side in (a, b)]
    one, other = found
    if one is None or other is None or one.n != other.n:
        return None
    lost, low, high = paired_difference(unpack(one.correct, one.n), unpack(other.correct, other.n))
    verdict = "worse" if low > 0 else "better" if high < 0 else "undecided"
    return {"name": name, "first": one.value, "second": other.value, "difference": -lost,
            "interval": [-high, -low], "ratio": None, "verdict": verdict}


def _cost(name: str, a: Side, b: Side) -> dict[str, Any]:
    one, other = a.values[name], b.values[name]
    low, high = a.intervals.get(name, [one, one])
    below, above = b.intervals.get(name, [other, other])
    if abs(other - one) < EQUAL * one:
        verdict = "equal"
    elif above < low or below > high:
        verdict = "better" if other < one else "worse"
    else:
        verdict = "undecided"
    return {"name": name, "first": one, "second": other, "difference": other - one,
            "interval": None, "ratio": other / one if one else None, "verdict": verdict}
