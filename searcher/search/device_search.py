"""The search state of one device and the decisions based on it: baseline, front, surrogate."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from searcher.client.jobs import JobFlow
from searcher.client.records import Trial
from searcher.jobs.evaluate import EvaluationResult
from searcher.ledger.tables.search_state import (
    JointMeasurement,
    SearchState,
    TaskFacts,
    TrainingOutcome,
)
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
from searcher.search.learnt.effort import Effort
from searcher.search.payloads import Requests
from searcher.search.promotion import shortfall, why_not_train, within_reach
from searcher.search.proposals import AHEAD, LONGEST_QUEUE_S
from searcher.search.recipes.tables import Scans
from searcher.search.rungs import UNKNOWN_S, known_rungs, rungs_of
from searcher.search.scanning import scan_all
from searcher.search.space import Space
from searcher.spec.fidelity import REPAIRED, TRAINED
from searcher.spec.objectives import DROP, Objective, resolved
from searcher.spec.recipe import Recipe

BREAKS = "breaks a constraint"


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
        self._trainings: list[TrainingOutcome] = []
        self._scans: Mapping[str, int] = {}
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
        if known is not None:
            self.requests = replace(self.requests, epochs=known.epochs)
        self._fit(UNKNOWN_S)
        self._trainings = [] if known is None else list(known.trainings)

    def plan_training(self, facts: TaskFacts | None, states_epochs: bool,
                      builders_s: float) -> None:
        """Decide how long candidates are trained, before any is known. ``states_epochs``: the
        task's author says it; ``builders_s`` is the search time of all builders together."""
        rungs = known_rungs(self.requests.epochs, facts, rungs_of(facts, states_epochs, builders_s))
        campaign = self.requests.campaign
        if rungs.why_not is not None and campaign.search.repair:
            campaign = replace(campaign, search=replace(campaign.search, train=False))
            self._notes += [rungs.why_not] if rungs.why_not not in self._notes else []
        self.requests = replace(self.requests, campaign=campaign, epochs=rungs.epochs)
        self._fit(rungs.full_s)

    def scan(self, jobs: JobFlow, search_s: float, builders: int) -> Scans:
        """What each layer loses, found within a share of ``search_s``; nothing where the campaign
        wants no scan."""
        if not self.requests.campaign.search.scan:
            return {}
        found = scan_all(jobs, self.requests, self._space, search_s, builders)
        self._scans = found.jobs
        self._notes += [note for note in found.notes if note not in self._notes]
        return found.results

    def _fit(self, full_s: float) -> None:
        self._acquisition = Acquisition(self.requests.campaign, self._space,
                                        self._baseline.state.values, Effort(full_s))

    @property
    def extends(self) -> bool:
        """Whether the search chose epochs for extended training."""
        return "extended" in self.requests.epochs

    @property
    def trains(self) -> bool:
        return self.requests.campaign.search.train

    @property
    def first_training(self) -> str:
        """The fidelity with which training begins: full where short training has as many epochs."""
        epochs = self.requests.epochs
        return "full" if epochs and epochs["short"] == epochs["full"] else "short"

    def resume(self, rows: Iterable[Trial]) -> None:
        """Fit the surrogate to the trials of an earlier search process of this campaign, and
        restore the front."""
        points, recipes = [], {}
        first = {t.trial: t for t in reversed(self._trainings)}
        for row in rows:
            recipes[row.id] = row.built_from
            recipe, values = row.built_from, row.values or {}
            if "latency_s" in values:
                self._acquisition.add_costs(recipe, values)
            if DROP in values:
                before = first.get(row.id)
                repaired = before is not None or self.requests.campaign.search.repair
                drop = values[DROP] if before is None else before.drop * self._scale
                self._acquisition.add_drop(
                    recipe, {**values, DROP: drop},
                    REPAIRED if repaired else "full" if row.state == "complete" else "short")
            point = trial_point(row)
            points += [] if point is None else [point]
        for training in self._trainings:
            if training.trial in recipes:
                self._acquisition.add_training(recipes[training.trial], training)
        self._front = front_of(points, self.requests.campaign.objectives)

    def state(self, baseline_s: float, searched_s: float, extended: Sequence[int],
              flow: Iterable[Candidate]) -> SearchState:
        """The state to store in the ledger."""
        unfinished = list(flow)
        trained = {c.trial: c.trained_state for c in unfinished
                   if c.stage in ("full", "measuring again") and c.fidelity != REPAIRED}
        repaired = {c.trial: c.repaired.figures for c in unfinished if c.repaired is not None}
        return SearchState(self._baseline.state, baseline_s, searched_s, self._joint,
                           tuple(self._notes), tuple(extended), trained, self._baseline.quality,
                           repaired=repaired, trainings=tuple(self._trainings),
                           epochs=self.requests.epochs, scans=self._scans)

    def competing_points(self, flow: Iterable[Candidate], but: int | None = None) -> list[Point]:
        """The front, trained candidates that wait for their measurement, with the latency of
        their untrained graph, and those that keep every constraint with their repaired file;
        without those of trial ``but``."""
        found = list(self._front)
        for candidate in flow:
            if candidate.stage == "measuring again":
                found.append(Point(candidate.trial, candidate.values, True))
            elif candidate.repaired is not None and self._keeps_all(
                    candidate.repaired.figures.values):
                found.append(Point(candidate.trial, candidate.repaired.figures.values, True))
        return [point for point in found if point.trial != but]

    def front(self, flow: Iterable[Candidate]) -> list[Point]:
        return front_of(self.competing_points(flow), self.requests.campaign.objectives)

    def add_measurement(self, candidate: Candidate) -> None:
        self._acquisition.add_costs(candidate.recipe, candidate.values)
        if candidate.fidelity == REPAIRED:
            candidate.keep_repaired()

    def add_candidate(self, candidate: Candidate, front: Sequence[Point]) -> None:
        """Add what a new candidate gained for its seconds, measured or refused before."""
        known = "latency_s" in candidate.values and candidate.repaired is not None
        gained = self._acquisition.added(candidate.values, front) if known else 0.0
        self._acquisition.effort.add_candidate(gained, candidate.took_s)

    def add_evaluation(self, candidate: Candidate, evaluation: EvaluationResult, fidelity: str,
                       took_s: float = 0.0) -> None:
        """Add the quality that a repair or training reached."""
        values, intervals = quality_figures(evaluation, self._baseline)
        before = {} if candidate.repaired is None else {
            REPAIRED: candidate.repaired.figures.values[DROP]}
        if candidate.fidelity in TRAINED:
            before[candidate.fidelity] = candidate.values[DROP]
        candidate.values |= values
        candidate.intervals |= intervals
        candidate.fidelity = fidelity
        if not before:
            self._acquisition.add_drop(candidate.recipe, candidate.values, fidelity)
        share = candidate.values["macs"] / self._baseline.state.values["macs"]
        for place, (earlier, drop) in enumerate(reversed(before.items())):
            training = TrainingOutcome(
                candidate.trial, earlier, drop / self._scale, fidelity,
                candidate.values[DROP] / self._scale, share, took_s if place == 0 else 0.0)
            self._trainings.append(training)
            self._acquisition.add_training(candidate.recipe, training)

    @property
    def _scale(self) -> float:
        return self._baseline.quality.scale

    def _keeps_all(self, values: Mapping[str, float]) -> bool:
        return all(v <= 0 for v in self.requests.excess(values).values())

    def expected_gain(self, recipe: Recipe, front: Sequence[Point]) -> float:
        """Predicted gain of a recipe that is not built yet."""
        return self._acquisition.predicted_gain(recipe, front)

    def gain(self, candidate: Candidate, front: Sequence[Point]) -> tuple[float, float]:
        """Gain of training a measured candidate."""
        return self._acquisition.gain(candidate.recipe, candidate.values, front)

    def ahead(self, builders: int) -> int:
        """How many new candidates are built or measured at the same time: the next recipe depends
        on what these show, so slow builds are asked for late."""
        if not self.requests.campaign.search.repair or self._acquisition.effort.candidate_s is None:
            return AHEAD
        waiting = builders * LONGEST_QUEUE_S / self._acquisition.effort.candidate_s
        return max(min(builders + round(waiting), AHEAD), builders + 1)

    def by_gain(self, flow: Collection[Candidate]) -> list[tuple[Candidate, float]]:
        """The candidates that wait for training by increasing gain, which is per second."""
        front = self.front(flow)
        gains = [(self.gain(c, front), -c.trial, c) for c in flow if c.stage == "waiting"]
        return [(c, gain) for (gain, _), _, c in sorted(gains, key=lambda entry: entry[:2])]

    def paying(self, flow: Collection[Candidate]) -> list[Candidate]:
        """Those of ``by_gain`` whose training gains more per second than new candidates do."""
        new = self._acquisition.effort.gain_per_second
        if new is None or not self.trains:
            return []
        return [c for c, gain in self.by_gain(flow) if gain > new]

    def _optimistic_drop(self, candidate: Candidate) -> float | None:
        """The least drop that further training may reach, in the metric's unit; None for a
        candidate without a quality."""
        if DROP not in candidate.values:
            return None
        drop = candidate.values[DROP]
        if not self.requests.campaign.search.train:
            return drop
        return self._scale * self._acquisition.optimistic_drop(
            candidate.recipe, candidate.fidelity, drop / self._scale)

    def why_not_measure(self, candidate: Candidate) -> Refusal | None:
        """None when a repaired candidate may keep the constraint of the quality drop."""
        reached = self._optimistic_drop(candidate)
        if reached is None or within_reach(reached, self.constraints):
            return None
        drop = candidate.values[DROP]
        word = "short training" if candidate.fidelity == "short" else "repair"
        more = "training wins back" if self.trains else "the campaign allows"
        return Refusal(f"{word} lost {self.quality.text(drop)}, more than {more}",
                       {DROP: (drop - self.constraints.get(DROP, 0.0)) / self._scale})

    def why_not_train(self, candidate: Candidate, competing: Sequence[Point]) -> Refusal | None:
        """None when a measured candidate is on the front or training may bring it there."""
        refused = self.why_not_measure(candidate)
        if refused is not None:
            return refused
        name, reached = self.quality.name, self._optimistic_drop(candidate)
        if reached is None:
            best = min([self._baseline.state.values[name],
                        *(p.values[name] for p in competing if p.feasible)], key=self.quality.loss)
        else:
            best = self.quality.worsened(self._baseline.state.values[name], reached)
        values = {k: v for k, v in candidate.optimistic_values.items() if k != DROP}
        found = why_not_train(values, self.constraints, best, competing,
                              self.requests.campaign.objectives)
        return None if found is None else Refusal(*found)

    def keeps_quality(self, candidate: Candidate) -> bool:
        allowed = self.constraints.get(DROP)
        return allowed is None or candidate.values[DROP] <= allowed

    def repaired_counts(self, candidate: Candidate, flow: Iterable[Candidate]) -> bool:
        """Whether the repaired file of a candidate may be on the front."""
        if candidate.repaired is None:
            return False
        figures = candidate.repaired.figures
        values = figures.values
        fastest = {**values, "latency_s": values["latency_s"] * (1 - figures.slack)}
        return self._keeps_all(fastest) and shortfall(
            fastest, values[self.quality.name], self.competing_points(flow, candidate.trial),
            self.requests.campaign.objectives) <= 0

    def may_be_won_back(self, candidate: Candidate) -> bool:
        """Whether a candidate breaks the constraint of the quality drop alone, by no more than what
        training wins back."""
        if candidate.repaired is None:
            return False
        broken = {name: over for name, over in self.requests.excess(
            candidate.repaired.figures.values).items() if over > 0}
        return 0 < broken.pop(DROP, 0.0) <= self._acquisition.wins_back and not broken

    def why_not_continue(self, candidate: Candidate, competing: Sequence[Point]) -> Refusal | None:
        """None when full training is worthwhile after short training."""
        refused = self.why_not_measure(candidate)
        if refused is not None:
            return refused
        reached = self._optimistic_drop(candidate)
        assert reached is not None, "it was evaluated after short training"
        reachable = self.quality.worsened(
            self._baseline.state.values[self.quality.name], reached)
        reduction = shortfall(candidate.optimistic_values, reachable, competing,
                              self.requests.campaign.objectives)
        if reduction > 0:
            return Refusal("cannot reach the front with what short training gave",
                           {"reach": reduction})
        new = self._acquisition.effort.gain_per_second
        if new is None or not self.requests.campaign.search.repair:
            return None
        own = Point(candidate.trial, dict(candidate.values), self._keeps_all(candidate.values))
        front = front_of([*competing, own], self.requests.campaign.objectives)
        gain = self._acquisition.gain_of_full(candidate.recipe, candidate.values, front)
        return None if gain >= new else Refusal(
            "full training is expected to gain less than new ones do", {"reach": 1 - gain / new})

    def is_worth_measuring(self, candidate: Candidate) -> bool:
        """Whether a trained candidate satisfies every constraint and may be on the front. It is
        compared with measured points only: a point whose measurement is pending may fail to be
        measured."""
        others = [point for point in self._front if point.trial != candidate.trial]
        return self._keeps_all(candidate.values) and shortfall(
            candidate.optimistic_values, candidate.values[self.quality.name], others,
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
            return BREAKS, constraints
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
            jobs, self.requests, self._baseline, before, builders, may_extend,
            self._acquisition.wins_back)
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
