"""What a ledger says: campaigns, candidates, fronts. Read-only; for commands and reports."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlite_utils import Database

from searcher.errors import UserError, nearest
from searcher.ledger.read_only import open_ledger
from searcher.ledger.rows import CampaignRow, MeasurementRow, TrialRow
from searcher.ledger.tables import builds, campaigns, measurements, trials
from searcher.pareto.front import Point, front_of, losses
from searcher.pareto.hypervolume import hypervolume
from searcher.pareto.joint import JointFigures, with_joint_measurement
from searcher.results.filter import condition
from searcher.results.status import standing
from searcher.spec.campaign import Campaign, from_document
from searcher.statistics.intervals import paired_difference, wilson

REFERENCE_DROP = 0.05
"""The hypervolume's reference point: this much accuracy below the baseline, at its costs."""


@dataclass(frozen=True)
class Candidate:
    """A finished or running trial with everything attached to it; its figures are those that were
    measured together with the front at the campaign's end, where there are such."""

    name: str
    trial: TrialRow
    recipe: list[dict[str, Any]]
    measurement: MeasurementRow | None
    values: dict[str, float]
    intervals: dict[str, list[float]]

    @property
    def feasible(self) -> bool:
        """Complete, within every constraint, and measured itself (not only its graph)."""
        return (self.trial.state == "complete" and self.measurement is not None
                and self.measurement.sha256 == self.trial.sha256
                and all(v <= 0 for v in (self.trial.constraints or {}).values()))

    @property
    def point(self) -> Point:
        return Point(self.trial.id, self.values, self.feasible)


class Reading:
    """A view of ``directory/ledger.db``; every call opens, reads and closes it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def ledger(self) -> AbstractContextManager[Database]:
        return open_ledger(self.directory / "ledger.db")

    def artifact(self, sha256: str) -> Path:
        return (self.directory / "artifacts" / sha256).absolute()

    def campaigns(self) -> list[CampaignRow]:
        """Newest first."""
        with self.ledger() as db:
            return campaigns.history(db)

    def campaign(self, name: str | None) -> tuple[CampaignRow, Campaign]:
        """By name; without one, the only campaign there is. Raises UserError."""
        rows = {row.name: row for row in self.campaigns()}
        if name is None and len(rows) == 1:
            name = next(iter(rows))
        if name is None:
            raise UserError(f"Name a campaign of {self.directory}. {nearest('', rows)}")
        if name not in rows:
            raise UserError(f"No campaign {name!r} in {self.directory}. "
                            f"{nearest(name, rows)}")
        return rows[name], from_document(rows[name].spec)

    def candidates(self, campaign: str) -> list[Candidate]:
        """Every trial of a campaign, by number."""
        with self.ledger() as db:
            row = campaigns.get(db, campaign)
            baseline, together, place = _correct(db, row, "test"), _together(row), place_of(row)
            return [_candidate(
                        db, replace(trial, **with_joint_measurement(asdict(trial), together)),
                        baseline, place)
                    for trial in trials.history(db, campaign)]

    def candidate(self, name: str) -> Candidate:
        """``campaign/number``. Raises UserError."""
        campaign, _, number = name.rpartition("/")
        row, _ = self.campaign(campaign or None)
        found = {str(c.trial.number): c for c in self.candidates(row.name)}
        if number not in found:
            raise UserError(f"No candidate {name!r}: write campaign/number, with a number from 0 "
                            f"to {len(found) - 1}.")
        return found[number]

    def front(self, name: str | None, where: str | None = None,
              device: str | None = None) -> dict[str, Any]:
        """The front document of ``fleetfront front --format json``."""
        row, campaign = self.campaign(name)
        if device is not None and device not in campaign.devices:
            raise UserError(f"Campaign {row.name} has no device {device!r}. "
                            f"{nearest(device, campaign.devices)}")
        keep = condition(where)
        everyone = {c.trial.id: c for c in self.candidates(row.name)}
        together = _together(row)
        chosen = front_of([c.point for id_, c in everyone.items()
                           if not together or str(id_) in together], campaign.objectives)
        baseline = _baseline_point(self, row)
        reference = reference_point(baseline["values"], campaign)
        points = [self._point(everyone[p.trial]) for p in chosen]
        points = [p for p in points if keep(p["values"])]
        return {
            "campaign": row.name, "device": campaign.devices[0],
            "objectives": [{"name": o.name, "direction": o.direction, "unit": o.unit}
                           for o in campaign.objectives],
            "baseline": baseline, "points": points,
            "hypervolume": hypervolume(
                [losses(p["values"], campaign.objectives) for p in points], reference),
            "reference_point": [-v if o.direction == "maximize" else v
                                for v, o in zip(reference, campaign.objectives, strict=True)],
            "accuracy_place": place_of(row), "measured_with": str(campaign.executions[0]),
        }

    def status(self, name: str | None, now_s: float) -> dict[str, Any]:
        """The document of ``fleetfront status --format json``."""
        row, campaign = self.campaign(name)
        with self.ledger() as db:
            counted = trials.counts(db, row.name)
        return standing(asdict(row), counted, campaign.budget, now_s)

    def _point(self, candidate: Candidate) -> dict[str, Any]:
        sha256 = candidate.trial.sha256 or ""
        return {"candidate": candidate.name, "recipe": candidate.recipe,
                "values": candidate.values, "intervals": candidate.intervals,
                "artifact": str(self.artifact(sha256)), "sha256": sha256}


def reference_point(baseline: Mapping[str, float], campaign: Campaign) -> list[float]:
    """The hypervolume's reference as losses: baseline costs, ``REFERENCE_DROP`` less accurate."""
    lowered = {**baseline, "accuracy": baseline["accuracy"] - REFERENCE_DROP}
    return list(losses(lowered, campaign.objectives))


def _baseline_point(reading: Reading, row: CampaignRow) -> dict[str, Any]:
    if not row.baseline or "sha256" not in row.baseline:
        raise UserError(f"Campaign {row.name} has no measured baseline yet; "
                        "see `fleetfront status`.")
    sha256 = row.baseline["sha256"]
    with reading.ledger() as db:
        test = builds.evaluation(db, sha256, "test", place_of(row))
    there = row.baseline.get("on_device", {"values": {}, "intervals": {}})
    values = {**row.baseline["values"], **there["values"]}
    intervals = {**row.baseline["intervals"], **there["intervals"]}
    if test is not None:
        values["accuracy_test"] = test.value
        intervals["accuracy_test"] = list(wilson(round(test.value * test.n), test.n))
    return {"candidate": "baseline", "recipe": [], "values": values, "intervals": intervals,
            "artifact": str(reading.artifact(sha256)), "sha256": sha256}


def _correct(db: Database, row: CampaignRow | None, split: str) -> np.ndarray | None:
    if row is None or not row.baseline or "sha256" not in row.baseline:
        return None
    found = builds.evaluation(db, row.baseline["sha256"], split, place_of(row))
    return None if found is None else unpack(found.correct, found.n)


def _together(row: CampaignRow | None) -> JointFigures:
    return {} if row is None else (row.baseline or {}).get("together") or {}


def place_of(row: CampaignRow | None) -> str:
    """Where the accuracies of a campaign's front were computed: ``host``, or device, runtime and
    provider."""
    found = {} if row is None or not row.baseline else row.baseline.get("on_device") or {}
    return str(found.get("place", builds.HOST))


def unpack(correct: bytes, n: int) -> np.ndarray:
    """Booleans of an evaluation's packed bits."""
    return np.unpackbits(np.frombuffer(correct, np.uint8), count=n).astype(bool)


def _candidate(db: Database, row: TrialRow, baseline_test: np.ndarray | None,
               place: str) -> Candidate:
    values, intervals = dict(row.values or {}), dict(row.intervals or {})
    test = builds.evaluation(db, row.sha256, "test", place) if row.sha256 else None
    if test is not None:
        correct = unpack(test.correct, test.n)
        values["accuracy_test"] = test.value
        intervals["accuracy_test"] = list(wilson(int(correct.sum()), test.n))
        if baseline_test is not None:
            drop, low, high = paired_difference(baseline_test, correct)
            values["accuracy_test_drop"] = drop
            intervals["accuracy_test_drop"] = [low, high]
    measured = measurements.get(db, row.measurement) if row.measurement else None
    return Candidate(f"{row.campaign}/{row.number}", row, builds.recipe(db, row.recipe) or [],
                     measured, values, intervals)


