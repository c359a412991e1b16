"""The search state of one device and the decisions based on it: baseline, front, surrogate."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from searcher.client.jobs import JobFlow
from searcher.client.records import Trial
from searcher.jobs.evaluate import EvaluationResult
from searcher.ledger.tables.search_state import JointMeasurement, SearchState, TrainedState
from searcher.pareto.front import Point, front_of
from searcher.pareto.joint import trial_point
from searcher.search.acquisition import Acquisition
from searcher.search.baseline import Baseline, establish, quality_figures
from searcher.search.candidate import Candidate
from searcher.search.device_quality import OnDevice, with_device_quality
from searcher.search.extended_training import extend
from searcher.search.final_measurement import (
    evaluate_on_test,
    final_files,
    final_trial,
    measure_together,
)
from searcher.search.payloads import Requests
from searcher.search.promotion import HEADROOM, shortfall, why_not_train, worth_continuing
from searcher.search.space import Space
from searcher.spec.objectives import DROP, Objective, resolved
from searcher.spec.recipe import Recipe


@dataclass(frozen=True)
class Refusal:
    """Why a candidate is pruned, and its violated constraints for the sampler."""

    reason: str
    constraints: Mapping[str, float]


class DeviceSearch:
    """One device of a campaign. Call ``begin`` and ``resume`` before any other method."""

    def __init__(self, requests: Requests, device: str, space: Space,
                 on_device: OnDevice | None = None, notes: Sequence[str] = ()) -> None:
        self.requests, self.device = requests, device
        self._space, self._on_device, self._notes = space, on_device, list(notes)
        self._front: list[Point] = []
        self._joint: JointMeasurement = {}
        self._baseline: Baseline
        self._acquisition: Acquisition

    @property
    def baseline(self) -> Baseline:
        return self._baseline

    @property
    def quality(self) -> Objective:
        return self._baseline.quality.objective

    @property
    def constraints(self) -> Mapping[str, float]:
        return self.requests.campaign.constraints

    def begin(self, jobs: JobFlow, known: SearchState | None, threads: int) -> None:
        """Establish the baseline, and resolve the objectives with its metric. Raises BuildError,
        and UserError when the campaign asks for another metric."""
        self._baseline = establish(jobs, self.requests, known, threads)
        campaign = self.requests.campaign
        self.requests = replace(self.requests, campaign=replace(
            campaign, objectives=resolved(campaign.objectives, self._baseline.quality)))
        self._acquisition = Acquisition(
            self.requests.campaign, self._space, self._baseline.state.values)

    def resume(self, rows: Iterable[Trial]) -> None:
        """Fit the surrogate to the trials of an earlier search process of this campaign, and
        restore the front."""
        points = []
        for row in rows:
            recipe, values = row.built_from, row.values or {}
            if "latency_s" in values:
                self._acquisition.add_costs(recipe, values)
            if DROP in values:
                self._acquisition.add_drop(
                    recipe, values, "full" if row.state == "complete" else "short")
            point = trial_point(row)
            points += [] if point is None else [point]
        self._front = front_of(points, self.requests.campaign.objectives)

    def state(self, baseline_s: float, searched_s: float, extended: Sequence[int],
              trained: Mapping[int, TrainedState]) -> SearchState:
        """The state to store in the ledger."""
        return SearchState(self._baseline.state, baseline_s, searched_s, self._joint,
                           tuple(self._notes), tuple(extended), trained, self._baseline.quality)

    def competing_points(self, flow: Iterable[Candidate]) -> list[Point]:
        """The front, and trained candidates that wait for their measurement, with the latency of
        their untrained graph."""
        return [*self._front, *(Point(c.trial, c.values, True) for c in flow
                                if c.stage == "measuring again")]

    def front(self, flow: Iterable[Candidate]) -> list[Point]:
        return front_of(self.competing_points(flow), self.requests.campaign.objectives)

    def add_measurement(self, candidate: Candidate) -> None:
        self._acquisition.add_costs(candidate.recipe, candidate.values)

    def add_evaluation(self, candidate: Candidate, evaluation: EvaluationResult) -> None:
        """Add the quality that a training reached."""
        values, intervals = quality_figures(evaluation, self._baseline)
        candidate.values |= values
        candidate.intervals |= intervals
        self._acquisition.add_drop(candidate.recipe, candidate.values, candidate.stage)

    def expected_gain(self, recipe: Recipe, front: Sequence[Point]) -> float:
        """Predicted gain of a recipe that is not built yet."""
        return self._acquisition.predicted_gain(recipe, front)

    def gain(self, candidate: Candidate, front: Sequence[Point]) -> tuple[float, float]:
        """Gain of training a measured candidate."""
        return self._acquisition.gain(candidate.recipe, candidate.values, front)

    def why_not_train(self, candidate: Candidate, competing: Sequence[Point]) -> Refusal | None:
        """None when training may bring a measured candidate onto the front."""
        name = self.quality.name
        best = min([self._baseline.state.values[name],
                    *(p.values[name] for p in competing if p.feasible)], key=self.quality.loss)
        found = why_not_train(candidate.optimistic_values, self.constraints, best, competing,
                              self.requests.campaign.objectives)
        return None if found is None else Refusal(*found)

    def keeps_quality(self, candidate: Candidate) -> bool:
        allowed = self.constraints.get(DROP)
        return allowed is None or candidate.values[DROP] <= allowed

    def why_not_continue(self, candidate: Candidate, competing: Sequence[Point]) -> Refusal | None:
        """None when full training is worthwhile after short training."""
        quality, scale = self.quality, self._baseline.quality.scale
        drop = candidate.values[DROP]
        if not worth_continuing(drop, self.constraints, scale):
            return Refusal(f"short training lost {quality.text(drop)}, more than full training "
                           "wins back", {DROP: (drop - self.constraints.get(DROP, 0.0)) / scale})
        reachable = quality.worsened(candidate.values[quality.name], -HEADROOM * scale)
        reduction = shortfall(candidate.optimistic_values, reachable, competing,
                              self.requests.campaign.objectives)
        if reduction > 0:
            return Refusal("cannot reach the front with what short training gave",
                           {"reach": reduction})
        return None

    def is_worth_measuring(self, candidate: Candidate) -> bool:
        """Whether a trained candidate satisfies every constraint and may be on the front. It is
        compared with measured points only: a point whose measurement is pending may fail to be
        measured."""
        broken = any(v > 0 for v in self.requests.excess(candidate.values).values())
        return not broken and shortfall(
            candidate.optimistic_values, candidate.values[self.quality.name], self._front,
            self.requests.campaign.objectives) <= 0

    def complete(self, candidate: Candidate,
                 measured: bool) -> tuple[str | None, dict[str, float]]:
        """Add a completed candidate to the front if it is feasible. Returns the reason why it does
        not count, and its constraints."""
        constraints = self.requests.excess(candidate.values)
        feasible = measured and all(v <= 0 for v in constraints.values())
        point = Point(candidate.trial, dict(candidate.values), feasible)
        self._front = front_of([*self._front, point], self.requests.campaign.objectives)
        if measured:
            return None, constraints
        if any(v > 0 for v in constraints.values()):
            return "breaks a constraint after training", constraints
        return ("another candidate is better on every objective; latency is that of its "
                "untrained graph"), constraints

    def extend_front(self, jobs: JobFlow, trials: Sequence[Trial],
                     held: Mapping[int, Candidate], builders: int,
                     may_extend: Callable[[int], bool] | None) -> tuple[list[Trial], set[int]]:
        """Extended training of the expected front, when ``may_extend`` is given. ``held`` are
        trained candidates that were not measured yet. Returns the trials with their new files and
        figures, and the ids of those whose file was not measured."""
        before = [final_trial(row, held[row.id], self.requests) if row.id in held else row
                  for row in trials]
        after = before if may_extend is None else extend(
            jobs, self.requests, self._baseline, before, builders, may_extend)
        extended = {t.id for t, own in zip(after, before, strict=True) if t is not own}
        return after, extended | set(held)

    def measure_front(self, jobs: JobFlow, trials: Sequence[Trial], unmeasured: Collection[int],
                      may_retry: Callable[[], bool]) -> JointMeasurement:
        self._joint = measure_together(
            jobs, self.requests, self._baseline.state, trials, unmeasured, may_retry)
        return self._joint

    def validate(self, jobs: JobFlow, trials: Sequence[Trial]) -> None:
        """Replace the quality of the front by that on the device when its numerics differ from the
        host's."""
        self._joint, state, notes = with_device_quality(
            jobs, self.requests, self._on_device, self._baseline, trials, self._joint)
        self._baseline = replace(self._baseline, state=state)
        self._notes += notes

    def evaluate_on_test(self, jobs: JobFlow, trials: Sequence[Trial]) -> None:
        files = final_files(self.requests, trials, self._joint)
        evaluate_on_test(jobs, self.requests, self._baseline.state, files, self._on_device)
