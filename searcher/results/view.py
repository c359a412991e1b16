"""What a ledger says: campaigns, candidates, fronts. Read-only; for commands and reports."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from searcher.errors import UserError, nearest
from searcher.ledger.read_only import open_ledger
from searcher.ledger.rows import CampaignRow, MeasurementRow, TrialRow
from searcher.ledger.tables import builds, campaigns, measurements, search_state, trials
from searcher.ledger.tables.search_state import SearchState
from searcher.pareto.front import Point, front_of, losses
from searcher.pareto.hypervolume import hypervolume
from searcher.pareto.joint import with_joint_measurement
from searcher.results.failures import failures_of
from searcher.results.figures import (
    FileFigures,
    Judging,
    baseline_figures,
    baseline_test,
    candidate_figures,
)
from searcher.results.filter import condition
from searcher.results.front import Front, FrontPoint
from searcher.results.scans import scans_of
from searcher.results.status import CampaignStatus, stored_status
from searcher.spec.campaign import Campaign, from_document
from searcher.spec.objectives import Objective, quality_of, resolved, scale_of
from searcher.spec.recipe import Recipe
from searcher.spec.scan_result import ScanResult
from searcher.tasks.scored_split import ScoredSplit

REFERENCE_DROP = 0.05
"""The hypervolume's reference point: worse than the baseline by this much, relative to the
quality's scale, at its costs."""


@dataclass(frozen=True)
class StoredCandidate:
    """A finished or running trial with everything attached to it; its figures are those that were
    measured together with the front at the campaign's end, where there are such. The search
    ``asked`` for a recipe; ``recipe`` is that of the file, which lacks the training where the file
    was repaired only."""

    name: str
    trial: TrialRow
    asked: Recipe
    recipe: Recipe
    measurement: MeasurementRow | None
    figures: FileFigures

    @property
    def feasible(self) -> bool:
        """Complete, within every constraint, and measured itself (not only its graph)."""
        return (self.trial.state == "complete" and self.measurement is not None
                and self.measurement.sha256 == self.trial.sha256
                and all(v <= 0 for v in (self.trial.constraints or {}).values()))

    @property
    def point(self) -> Point:
        return Point(self.trial.id, self.figures.values, self.feasible)


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

    def search_states(self, campaign: str) -> dict[str, SearchState]:
        """By device; a device is missing until its baseline is measured."""
        with self.ledger() as db:
            return search_state.of_campaign(db, campaign)

    def scans(self, campaign: str | None) -> dict[str, tuple[ScanResult, ...]]:
        """What each layer loses alone, one scan per strategy, by device. Raises UserError."""
        row, _ = self.campaign(campaign)
        with self.ledger() as db:
            return {device: scans_of(db, state)
                    for device, state in search_state.of_campaign(db, row.name).items()}

    def candidates(self, campaign: str) -> list[StoredCandidate]:
        """Every trial of a campaign, by number."""
        _, spec = self.campaign(campaign)
        with self.ledger() as db:
            judgings = {device: Judging(spec.task, state) for device, state in
                        search_state.of_campaign(db, campaign).items()}
            tests = {device: baseline_test(db, judging) for device, judging in judgings.items()}
            return [_candidate(db, trial, judgings.get(trial.device), tests.get(trial.device))
                    for trial in trials.history(db, campaign)]

    def candidate(self, name: str) -> StoredCandidate:
        """``campaign/number``. Raises UserError."""
        campaign, _, number = name.rpartition("/")
        row, _ = self.campaign(campaign or None)
        found = {str(c.trial.number): c for c in self.candidates(row.name)}
        if number not in found:
            raise UserError(f"No candidate {name!r}: write campaign/number, with a number from 0 "
                            f"to {len(found) - 1}.")
        return found[number]

    def front(self, name: str | None, where: str | None = None,
              device: str | None = None) -> Front:
        """The front of a campaign on ``device``, by default its first. Raises UserError, also for
        a condition that cannot be read and before the baseline is measured."""
        row, campaign = self.campaign(name)
        if device is not None and device not in campaign.devices:
            raise UserError(f"Campaign {row.name} has no device {device!r}. "
                            f"{nearest(device, campaign.devices)}")
        device = device or campaign.devices[0]
        state = self.search_states(row.name).get(device)
        if state is None:
            raise UserError(f"Campaign {row.name} has no measured baseline yet; "
                            "see `fleetfront status`.")
        keep = condition(where, state.quality)
        objectives = resolved(campaign.objectives, state.quality)
        judging = Judging(campaign.task, state)
        everyone = {c.trial.id: c for c in self.candidates(row.name) if c.trial.device == device}
        chosen = front_of([c.point for id_, c in everyone.items()
                           if not state.joint or id_ in state.joint], objectives)
        with self.ledger() as db:
            baseline = self._point(
                "baseline", Recipe(), baseline_figures(db, judging), state.baseline.sha256)
        members = [everyone[point.trial] for point in chosen]
        points = tuple(
            self._point(c.name, c.recipe, c.figures, c.trial.sha256 or "")
            for c in members if keep(c.figures.values))
        reference = reference_point(baseline.values, objectives)
        return Front(
            row.name, device, objectives, state.quality, baseline, points,
            hypervolume([losses(p.values, objectives) for p in points], reference),
            losses({o.name: v for o, v in zip(objectives, reference, strict=True)}, objectives),
            judging.place, str(campaign.executions[campaign.devices.index(device)]),
            failures_of(c.trial for c in everyone.values()))

    def status(self, name: str | None, now_s: float) -> CampaignStatus:
        """How far a campaign is. Raises UserError."""
        row, _ = self.campaign(name)
        with self.ledger() as db:
            return stored_status(db, row, now_s)

    def _point(self, name: str, recipe: Recipe, figures: FileFigures, sha256: str) -> FrontPoint:
        return FrontPoint(name, recipe, figures.values, figures.intervals, self.artifact(sha256),
                          sha256)


def reference_point(baseline: Mapping[str, float], objectives: Sequence[Objective]) -> list[float]:
    """The hypervolume's reference as losses: the baseline's costs, worse by ``REFERENCE_DROP``."""
    quality = quality_of(objectives)
    worse = quality.worsened(baseline[quality.name], REFERENCE_DROP * scale_of(objectives))
    return list(losses({**baseline, quality.name: worse}, objectives))


def _candidate(db: Database, trial: TrialRow, judging: Judging | None,
               test: ScoredSplit | None) -> StoredCandidate:
    row = trial if judging is None else with_joint_measurement(trial, judging.state.joint)
    figures = candidate_figures(
        db, row.sha256, row.values or {}, row.intervals or {}, judging, test)
    measured = measurements.get(db, row.measurement) if row.measurement else None
    asked = Recipe.from_list(builds.recipe(db, row.recipe) or [])
    return StoredCandidate(f"{row.campaign}/{row.number}", row, asked,
                           _recipe_of_file(db, row.sha256, asked), measured, figures)


def _recipe_of_file(db: Database, sha256: str | None, asked: Recipe) -> Recipe:
    """``asked``, or the part of it that gave the file."""
    built = [] if sha256 is None else list(
        map(Recipe.from_list, builds.recipes_of_file(db, sha256)))
    parts = [recipe for recipe in built if set(recipe.steps) <= set(asked.steps)]
    return asked if asked in parts or not parts else parts[0]
