"""The search loop of one campaign. It submits jobs and stores its state in the ledger.

    ask > compress, repair > promising? > measure > a point of the front > does training pay?
                                 |                                               |
                               pruned     tell < measure < train full < promising? < train short

    search time is up > repaired ones of the front complete > extended training > joint measurement

A candidate that training does not improve keeps its repaired file. Without repair (``[search]
repair = false``) it has a quality only after short training. Candidates advance independently.
Those that wait for the device share a quiet window.
"""

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from searcher.client.http import CoordinatorClient, TrialState
from searcher.client.jobs import EndedJob, JobFlow
from searcher.jobs.build import BuildResult
from searcher.ledger.tables.search_state import JointEntry, SearchState, TaskFacts
from searcher.search.candidate import Candidate
from searcher.search.device_search import DeviceSearch
from searcher.search.extended_training import TIME_FRACTION
from searcher.search.final_measurement import RETRY_FRACTION
from searcher.search.measurement_batches import MeasurementBatches
from searcher.search.payloads import COMPRESS, TRAIN
from searcher.search.promotion import POOL, TURNOVER
from searcher.search.proposals import AHEAD, Proposals
from searcher.search.recipes.tables import Parameters
from searcher.search.sampling import STARTUP_TRIALS, Sampling
from searcher.search.space import Space
from searcher.spec.campaign import Campaign
from searcher.spec.fidelity import REPAIRED

LISTEN_S = 5.0
SAVE_EVERY_S = 15.0
"""Longest time between checkpoints, and the most search time that a killed process loses."""


class SearchLoop:
    """The search of one campaign; call ``run`` once."""

    def __init__(self, client: CoordinatorClient, campaign: Campaign, of_device: DeviceSearch,
                 sampling: Sampling, builders: int,
                 now_s: Callable[[], float] = time.monotonic, extends: bool = False,
                 task: TaskFacts | None = None, states_epochs: bool = True,
                 first: Callable[[Space], Iterable[Parameters]] = lambda space: ()) -> None:
        """``extends``: the task defines epochs for extended training. ``task``: what the check of
        the task found. ``states_epochs``: its author says how long candidates are trained.
        ``first``: parameters of recipes to ask for before any other."""
        self.client, self.campaign = client, campaign
        self.sampling, self.builders, self.now_s = sampling, builders, now_s
        self._device, self._extends, self._task = of_device, extends, task
        self._extended, self._first = list[int](), first
        self._known: SearchState | None = None
        self._repairs, self._trains = campaign.search.repair, campaign.search.train
        self._states_epochs, self._trainings = states_epochs, 0
        self._jobs = JobFlow(client, campaign.name, of_device.device)
        self._flow: dict[int, Candidate] = {}
        self._batches = MeasurementBatches(
            self._jobs, of_device.requests, self._measured, lambda candidate, reason, message:
            self._lost(candidate, "failed", reason, f"on {of_device.device}: {message}"), now_s)
        self._proposals = Proposals(client, campaign, of_device.device, sampling)
        self._began_s = self._baseline_s = self._searched_s = self._saved_s = 0.0
        self._budget_s = self._search_s = 0.0

    def run(self) -> None:
        """Continue from the state in the ledger until the campaign is done."""
        self._began_s = self.now_s()
        self._known = known = self.client.campaign(
            self.campaign.name).search_states.get(self._device.device)
        self._device.begin(self._jobs, known, self.builders)
        self._baseline_s = self.now_s() - self._began_s if known is None else known.baseline_s
        self._budget_s = self.campaign.budget.search_s(self._baseline_s)
        self._device.plan_training(self._task, self._states_epochs, self.builders * self._budget_s)
        self._trains, extends = self._device.trains, self._extends or self._device.extends
        self._extends = self._trains and extends
        self._search_s = self._budget_s * (1 - TIME_FRACTION if self._extends else 1)
        if known is not None:
            self._searched_s, self._extended = known.searched_s, list(known.extended)
        self._resume()
        self._began_s = self.now_s()
        self.sampling.use_scans(self._device.scan(self._jobs, self._search_s, self.builders))
        self._proposals.first.extend(self._first(self.sampling.space))
        self._save()
        while self._step():
            pass
        self._finish()

    def _save(self) -> None:
        self._saved_s = self._elapsed_s()
        state = self._device.state(
            self._baseline_s, self._saved_s, self._extended, self._flow.values())
        self.client.save_search_state(
            self.campaign.name, self._device.device, replace(state, task=self._task))

    def _elapsed_s(self) -> float:
        return self._searched_s + self.now_s() - self._began_s

    def _resume(self) -> None:
        """Add the ledger's trials to the study and restart the running ones: builds are cached."""
        rows = self.client.trials(self.campaign.name)
        self._proposals.restore(rows)
        self._device.resume(rows)
        numbers = self.sampling.restore(rows)
        self._trainings = len(rows) // TURNOVER
        for row in rows:
            if row.state == "running":
                self._start(Candidate(row.id, numbers[row.id], row.built_from))

    def _step(self) -> bool:
        """One iteration of the loop; False when no work is left."""
        time_is_up = self._elapsed_s() >= self._search_s
        if time_is_up:
            self._prune_untrained()
        else:
            self._ask_ahead()
        self._send_measurements(time_is_up)
        if not time_is_up:
            self._train_best()
        held = len(self._batches.held) if time_is_up else 0
        if len(self._flow) == held and not self._jobs.has_news:
            return False
        left_s = self._search_s - self._elapsed_s()
        self._jobs.listen(min(left_s, LISTEN_S) if left_s > 0 else LISTEN_S)
        if self._elapsed_s() - self._saved_s >= SAVE_EVERY_S:
            self._save()
        return True

    def _count(self, *stages: str) -> int:
        return sum(c.stage in stages for c in self._flow.values())

    def _ask_ahead(self) -> None:
        while (self._proposals.asked < self.campaign.budget.candidates
               and self._count("compressing", "measuring") < self._device.ahead(self.builders)
               and self._count("waiting") < POOL and self._wants_recipe()):
            found = self._proposals.next(functools.partial(
                self._device.expected_gain,
                front=self._device.front(self._flow.values())), self._trains)
            if found is None:
                return
            self._start(found)

    def _wants_recipe(self) -> bool:
        """Whether a new recipe is worth more than a training."""
        if self._proposals.asked < self.sampling.startup_trials:
            return True
        if not self._repairs:
            return (self._proposals.asked < STARTUP_TRIALS + TURNOVER * self._trainings
                    or self._count("compressing", "measuring", "waiting") < AHEAD)
        return not self._device.paying(self._flow.values())

    def _start(self, candidate: Candidate) -> None:
        self._flow[candidate.trial] = candidate
        if not self._repairs and self._continue_training(candidate):
            return
        recipe = (self.sampling.space.compression(candidate.recipe) if self._repairs
                  else candidate.recipe)
        self._jobs.submit(self._device.requests.compress(recipe), COMPRESS,
                          lambda job: self._compressed(candidate, job))

    def _continue_training(self, candidate: Candidate) -> bool:
        """Continue the full training that an earlier search process began; False if it did not."""
        trained = None if self._known is None else self._known.trained.get(candidate.trial)
        if trained is not None:
            candidate.restore(trained)
            candidate.fidelity = "short"
            self._train(candidate, "full")
        return trained is not None

    def _compressed(self, candidate: Candidate, job: EndedJob[BuildResult]) -> None:
        build = self._built(candidate, job)
        if build is None:
            return
        candidate.values |= {"macs": build.report.macs}
        candidate.took_s = job.took_s
        repaired = None if self._known is None else self._known.repaired.get(candidate.trial)
        if build.evaluation is not None:
            self._device.add_evaluation(candidate, build.evaluation, REPAIRED)
        if repaired is not None:
            candidate.restore(repaired)
            candidate.keep_repaired()
            if not self._continue_training(candidate):
                self._wait(candidate)
            return
        refused = self._device.why_not_measure(candidate)
        if refused is not None:
            self._device.add_candidate(candidate, ())
            self._tell(candidate, "pruned", refused.reason, constraints=refused.constraints)
            return
        self._batches.add(candidate, "measuring")

    def _built(self, candidate: Candidate, job: EndedJob[BuildResult]) -> BuildResult | None:
        """The candidate's new build; None when it failed or the candidate was dropped."""
        if candidate.trial not in self._flow:
            return None
        if job.result is None:
            self._lost(candidate, "failed", job.reason or job.state, job.message or None)
            return None
        candidate.set_build(job.result)
        return job.result

    def _send_measurements(self, time_is_up: bool) -> None:
        self._batches.send(
            self._device.baseline.state,
            more_expected={True: bool(self._count("compressing")),
                           False: bool(self._count("short", "full")) and not time_is_up},
            idle=self._repairs and time_is_up or not self._count(
                "compressing", "short", "full", *(() if self._repairs else ("waiting",))),
            hold=time_is_up)

    def _measured(self, candidate: Candidate) -> None:
        if candidate.stage == "measuring again":
            self._complete(candidate, measured=True)
            return
        self._device.add_measurement(candidate)
        front = self._device.front(self._flow.values())
        self._device.add_candidate(
            candidate, [point for point in front if point.trial != candidate.trial])
        self._wait(candidate)

    def _wait(self, candidate: Candidate) -> None:
        """A measured candidate waits for training; without training it is done."""
        candidate.stage = "waiting"
        if candidate.repaired is not None and self._device.keeps_quality(candidate):
            self.sampling.add_parent(candidate.number, candidate.values)
        self._reconsider(candidate)
        if candidate.trial in self._flow and not self._trains:
            self._settle(candidate, "the budget ended before it was trained")

    def _reconsider(self, candidate: Candidate) -> None:
        """Prune a measured candidate that can no longer reach the front by training."""
        refused = self._device.why_not_train(
            candidate, self._device.competing_points(self._flow.values(), candidate.trial))
        if refused is not None:
            self._tell(candidate, "pruned", refused.reason, constraints=refused.constraints)

    def _train_best(self) -> None:
        """Train those of highest expected gain, as long as that gains more than new candidates."""
        for candidate in [c for c in self._flow.values() if c.stage == "waiting"]:
            self._reconsider(candidate)
        if self._repairs and self._count("waiting") >= POOL:
            self._drop_lowest()
        while self._trains and self._count("short", "full") < self.builders + 1:
            promising = self._worth_training()
            if not promising:
                break
            full = self._count("waiting") >= POOL
            self._train(promising[-1], self._device.first_training)
            if full and not self._repairs:
                self._drop_lowest()
        if self._repairs and self._count("waiting") == len(self._flow):
            for candidate in list(self._flow.values()):
                self._settle(candidate, "training would gain nothing")

    def _worth_training(self) -> list[Candidate]:
        found = self._device.by_gain(self._flow.values())
        if not self._repairs:
            return [candidate for candidate, _ in found]
        if self._count("waiting") == len(self._flow):
            return [candidate for candidate, gain in found if gain > 0]
        return self._device.paying(self._flow.values())

    def _drop_lowest(self) -> None:
        for lowest, _ in self._device.by_gain(self._flow.values())[:TURNOVER]:
            self._settle(lowest, "all others that waited for training promised more")

    def _train(self, candidate: Candidate, fidelity: str) -> None:
        self._trainings += fidelity == self._device.first_training
        candidate.stage = fidelity
        if fidelity == "full":
            self._save()
        self._jobs.submit(self._device.requests.train(candidate.recipe, fidelity),
                          TRAIN[fidelity], lambda job: self._trained(candidate, job))

    def _trained(self, candidate: Candidate, job: EndedJob[BuildResult]) -> None:
        if candidate.stage not in ("short", "full"):
            return  # the search time ended, it counts with its repaired file
        build = self._built(candidate, job)
        if build is None:
            return
        if build.evaluation is None:
            return self._tell(candidate, "failed", "not evaluated", "The training returned no "
                              "evaluation. Are all builders of one version?")
        self._device.add_evaluation(candidate, build.evaluation, candidate.stage, job.took_s)
        if candidate.stage == "short":
            return self._after_short(candidate)
        if self._device.keeps_quality(candidate):
            self.sampling.add_parent(candidate.number, candidate.values)
        if not self._measure_trained(candidate):
            self._complete(candidate, measured=False)

    def _measure_trained(self, candidate: Candidate) -> bool:
        """Measure the better of the trained and the repaired file; False if neither counts."""
        if candidate.is_worse_than_repaired and self._keep_repaired(candidate):
            return True
        if self._device.is_worth_measuring(candidate):
            self._batches.add(candidate, "measuring again")
            return True
        return self._keep_repaired(candidate)

    def _after_short(self, candidate: Candidate) -> None:
        refused = self._device.why_not_continue(
            candidate, self._device.competing_points(self._flow.values(), candidate.trial))
        if self._device.keeps_quality(candidate):
            self.sampling.add_parent(candidate.number, candidate.values)
        if refused is None:
            self._train(candidate, "full")
        elif not (self._repairs and self._measure_trained(candidate)):
            self._lost(candidate, "pruned", refused.reason, constraints=refused.constraints)

    def _lost(self, candidate: Candidate, state: TrialState, reason: str,
              message: str | None = None, constraints: Mapping[str, float] | None = None) -> None:
        if not self._keep_repaired(candidate):
            self._tell(candidate, state, reason, message, constraints)

    def _keep_repaired(self, candidate: Candidate) -> bool:
        """Complete a trained candidate with its repaired file, if that may be on the front."""
        if candidate.fidelity == REPAIRED and candidate.stage == "measuring again" or (
                not self._device.repaired_counts(candidate, self._flow.values())):
            return False
        candidate.return_to_repaired()
        if "latency_s" in candidate.intervals:
            self._complete(candidate, measured=True)
        else:
            self._batches.add(candidate, "measuring again")
        return True

    def _settle(self, candidate: Candidate, reason: str) -> None:
        """End a candidate that is not trained: with its repaired file, or pruned."""
        if self._keep_repaired(candidate):
            return
        if self._extends and self._device.may_be_won_back(candidate):
            candidate.return_to_repaired()
            self._complete(candidate, measured=False)
        else:
            self._tell(candidate, "pruned", reason)

    def _complete(self, candidate: Candidate, measured: bool) -> None:
        reason, constraints = self._device.complete(candidate, measured)
        self._tell(candidate, "complete", reason, constraints=constraints)

    def _tell(self, candidate: Candidate, state: TrialState, reason: str | None = None,
              message: str | None = None, constraints: Mapping[str, float] | None = None) -> None:
        self._flow.pop(candidate.trial, None)
        self.client.tell_trial(
            candidate.trial, state, values=candidate.values, intervals=candidate.intervals,
            constraints=dict(constraints or {}), reason=reason, message=message,
            sha256=candidate.sha256, measurement=candidate.measurement)
        self.sampling.tell(candidate.number, state, candidate.values, constraints or {})
        self._save()

    def _prune_untrained(self) -> None:
        """When the search time is up: complete repaired candidates, prune others without full
        training. A candidate whose quality is known is still measured."""
        for candidate in list(self._flow.values()):
            if candidate.stage == "measuring" and not self._repairs:
                self._batches.drop(candidate)
                self._tell(candidate, "pruned", "the budget ended before it was trained")
            elif candidate.stage in ("compressing", "waiting", "short"):
                self._settle(candidate, "the budget ended before it was trained")
        self.client.cancel_queued(self.campaign.name, ["compress"])

    def _finish(self) -> None:
        """Extended training, final measurement, validation and test of the front, then the end of
        the campaign."""
        held = {c.trial: c for c in self._batches.held}
        trials, unmeasured = self._device.extend_front(
            self._jobs, self.client.trials(self.campaign.name), held, self.builders,
            self._may_extend if self._extends else None)
        retries_end_s = self.now_s() + RETRY_FRACTION * self._budget_s
        joint = self._device.measure_front(
            self._jobs, trials, unmeasured, lambda: self.now_s() < retries_end_s)
        for candidate in held.values():
            self._complete_held(candidate, joint.get(candidate.trial))
        finished = self.client.trials(self.campaign.name)
        self._device.validate(self._jobs, finished)
        self._save()
        self._device.evaluate_on_test(self._jobs, finished)
        self._save()
        self.client.set_state(self.campaign.name, "done")

    def _may_extend(self, trial: int) -> bool:
        """Whether there is time for extended training of a trial, or it was started before."""
        if trial not in self._extended and self._elapsed_s() < self._budget_s:
            self._extended.append(trial)
            self._save()
        return trial in self._extended

    def _complete_held(self, candidate: Candidate, entry: JointEntry | None) -> None:
        if entry is not None and entry.values is None:
            why = entry.reason or "not measured"
            return self._tell(candidate, "failed", why, f"on {self._device.device}: {why}")
        if entry is not None:
            candidate.values |= entry.values or {}
            candidate.intervals |= entry.intervals or {}
            candidate.measurement, candidate.sha256 = entry.measurement, entry.sha256
        self._complete(candidate, measured=entry is not None)
