"""What a search knows of one device, and what it decides by that: baseline, front, surrogate."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from searcher.client.jobs import JobFlow
from searcher.client.records import Trial
from searcher.jobs.evaluate import EvaluationResult
from searcher.ledger.tables.search_state import JointMeasurement, SearchState, TrainedState
from searcher.pareto.front import Point, excess, front_of
from searcher.pareto.joint import trial_point
from searcher.search.acquisition import Acquisition
from searcher.search.baseline import Baseline, accuracy_of, establish
from searcher.search.candidate import Candidate
from searcher.search.device_accuracy import OnDevice, validated
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
from searcher.spec.recipe import Recipe


@dataclass(frozen=True)
class Refusal:
    """Why a candidate goes no further, and the violated constraints for the sampler."""

    reason: str
    constraints: Mapping[str, float]


class DeviceSearch:
    """One device of a campaign; ``begin``, then ``resume``, then the rest."""

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
    def constraints(self) -> Mapping[str, float]:
        return self.requests.campaign.constraints

    def begin(self, jobs: JobFlow, known: SearchState | None, threads: int) -> None:
        """Establish the baseline. Raises BuildError."""
        self._baseline = establish(
            jobs, self.requests, None if known is None else known.baseline, threads)
        self._acquisition = Acquisition(
            self.requests.campaign, self._space, self._baseline.state.values)

    def resume(self, rows: Iterable[Trial]) -> None:
        """Learn from the trials of an earlier search of this campaign."""
        points = []
        for row in rows:
            recipe, values = row.built_from, row.values or {}
            if "latency_s" in values:
                self._acquisition.measured(recipe, values)
            if "accuracy" in values:
                self._acquisition.trained(
                    recipe, values, "full" if row.state == "complete" else "short")
            point = trial_point(row)
            points += [] if point is None else [point]
        self._front = front_of(points, self.requests.campaign.objectives)

    def state(self, baseline_s: float, searched_s: float, extended: Sequence[int],
              trained: Mapping[int, TrainedState]) -> SearchState:
        """What the ledger keeps."""
        return SearchState(self._baseline.state, baseline_s, searched_s, self._joint,
                           tuple(self._notes), tuple(extended), trained)

    def points_to_beat(self, flow: Iterable[Candidate]) -> list[Point]:
        """The front, and trained candidates that wait to be measured: their latency is that of
        their untrained graph."""
        return [*self._front, *(Point(c.trial, c.values, True) for c in flow
                                if c.stage == "measuring again")]

    def front(self, flow: Iterable[Candidate]) -> list[Point]:
        return front_of(self.points_to_beat(flow), self.requests.campaign.objectives)

    def measured(self, candidate: Candidate) -> None:
        self._acquisition.measured(candidate.recipe, candidate.values)

    def evaluated(self, candidate: Candidate, evaluation: EvaluationResult) -> None:
        """Enter the accuracy that a training gave."""
        values, intervals = accuracy_of(evaluation, self._baseline.correct)
        candidate.values |= values
        candidate.intervals |= intervals
        self._acquisition.trained(candidate.recipe, candidate.values, candidate.stage)

    def expected_gain(self, recipe: Recipe, front: Sequence[Point]) -> float:
        """Of a recipe that was not built yet."""
        return self._acquisition.unbuilt(recipe, front)

    def gain(self, candidate: Candidate, front: Sequence[Point]) -> tuple[float, float]:
        """Of training a measured candidate."""
        return self._acquisition.gain(candidate.recipe, candidate.values, front)

    def why_not_train(self, candidate: Candidate, standing: Sequence[Point]) -> Refusal | None:
        """None where training may still bring a measured candidate onto the front."""
        best = max([self._baseline.state.values["accuracy"],
                    *(p.values["accuracy"] for p in standing if p.feasible)])
        found = why_not_train(candidate.optimistic_values, self.constraints, best, standing,
                              self.requests.campaign.objectives)
        return None if found is None else Refusal(*found)

    def keeps_accuracy(self, candidate: Candidate) -> bool:
        allowed = self.constraints.get("accuracy_drop")
        return allowed is None or candidate.values["accuracy_drop"] <= allowed

    def why_not_continue(self, candidate: Candidate, standing: Sequence[Point]) -> Refusal | None:
        """None where full training is worth it after the short one."""
        drop, allowed = candidate.values["accuracy_drop"], self.constraints.get("accuracy_drop")
        if not worth_continuing(drop, allowed):
            return Refusal(f"short training lost {drop:.2%}, more than full training wins back",
                           {"accuracy_drop": drop - (allowed or 0.0)})
        short = shortfall(candidate.optimistic_values, candidate.values["accuracy"] + HEADROOM,
                          standing, self.requests.campaign.objectives)
        if short > 0:
            return Refusal("cannot reach the front with what short training gave", {"reach": short})
        return None

    def is_worth_measuring(self, candidate: Candidate) -> bool:
        """Whether a trained candidate keeps every constraint and may be on the front. Only what
        was measured counts: a point must not be lost to one that may never be."""
        broken = any(v > 0 for v in excess(candidate.values, self.constraints).values())
        return not broken and shortfall(
            candidate.optimistic_values, candidate.values["accuracy"], self._front,
            self.requests.campaign.objectives) <= 0

    def completed(self, candidate: Candidate,
                  measured: bool) -> tuple[str | None, dict[str, float]]:
        """Enter a finished candidate; why it does not count, and its constraints."""
        constraints = excess(candidate.values, self.constraints)
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
        """Train on what is about to be the front, where ``may_extend`` is given. ``held`` are
        trained candidates that were not measured yet. The trials as they are then, and the ids of
        those whose file was not measured."""
        before = [final_trial(row, held[row.id], self.constraints) if row.id in held else row
                  for row in trials]
        after = before if may_extend is None else extend(
            jobs, self.requests, self._baseline, before, builders, may_extend)
        extended = {t.id for t, own in zip(after, before, strict=True) if t is not own}
        return after, extended | set(held)

    def measure_front(self, jobs: JobFlow, trials: Sequence[Trial], unmeasured: Collection[int],
                      patient: Callable[[], bool]) -> JointMeasurement:
        self._joint = measure_together(
            jobs, self.requests, self._baseline.state, trials, unmeasured, patient)
        return self._joint

    def validate(self, jobs: JobFlow, trials: Sequence[Trial]) -> None:
        """Accuracies of the front by the device itself, where its numerics differ."""
        self._joint, state, notes = validated(
            jobs, self.requests, self._on_device, self._baseline.state, trials, self._joint)
        self._baseline = Baseline(state, self._baseline.correct)
        self._notes += notes

    def evaluate_on_test(self, jobs: JobFlow, trials: Sequence[Trial]) -> None:
        files = final_files(self.requests, trials, self._joint)
        evaluate_on_test(jobs, self.requests, self._baseline.state, files, self._on_device)
