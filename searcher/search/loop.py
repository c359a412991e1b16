"""The search loop of one campaign on one device; it only decides, and everything it knows is in
the ledger.

    ask > compress > measure > worth it? > train short > worth it? > train full > measure > tell
                               |                         |             |
                            pruned                    pruned   complete, off the front

    time is nearly up > train on what is about to be the front > measure it together > test it

Candidates flow independently: while some train, others are compressed, so that the builders never
wait, and those that wait for the device share one quiet window.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from searcher.client.http import CoordinatorClient, TrialState
from searcher.client.jobs import Job, JobFlow
from searcher.pareto.front import Point, excess, front_of
from searcher.pareto.joint import JointFigures, trial_point
from searcher.search.acquisition import Prospects
from searcher.search.baseline import Baseline, accuracy_of, establish
from searcher.search.device_accuracy import OnDevice, validated
from searcher.search.extended_training import SHARE, extend
from searcher.search.final_measurement import as_told, final_files, judge_on_test, measure_together
from searcher.search.measurement_batches import Candidate, Windows
from searcher.search.payloads import Requests
from searcher.search.promotion import HEADROOM, shortfall, why_not_train, worth_continuing
from searcher.search.sampling import STARTUP_TRIALS, Sampling
from searcher.spec.campaign import Campaign
from searcher.spec.recipe import Recipe

PRIORITY = {"compress": 30, "full": 20, "short": 10}
AHEAD = 8
"""Candidates between asking and being measured, so that measurements share windows."""
POOL = 24
"""Measured candidates from which the most promising is trained next; whenever a training begins,
the least promising of a full pool make room for others."""
TURNOVER = 3
"""How many: being measured takes a twentieth of the time of being trained. And so many are asked
for each training: the later, the more is known of what is worth asking."""
PATIENCE = 0.08
"""Share of the budget for which a busy machine is waited for when the search is over."""
LISTEN_S = 5.0
SAVE_EVERY_S = 15.0
"""At most this much of the time spent is forgotten when the search is ended."""


class Search:
    """Drives one campaign to its end; call ``run`` once."""

    def __init__(self, client: CoordinatorClient, campaign: Campaign, device: str,
                 sampling: Sampling, target: Mapping[str, Any], builders: int,
                 now_s: Callable[[], float] = time.monotonic, notes: Sequence[str] = (),
                 on_device: OnDevice | None = None, extends: bool = False) -> None:
        """``extends``: the task gives epochs for extended training."""
        self.client, self.campaign, self.device = client, campaign, device
        self.sampling, self.builders, self.now_s = sampling, builders, now_s
        self._notes, self._on_device, self._extends = list(notes), on_device, extends
        self._extended: list[int] = []
        self._requests = Requests(campaign, target)
        self._jobs = JobFlow(client, campaign.name, device)
        self._flow: dict[int, Candidate] = {}
        self._windows = Windows(self._jobs, self._requests, self._measured, self._failed, now_s)
        self._front: list[Point] = []
        self._prospects: Prospects
        self._seen: set[str] = set()
        self._together: JointFigures = {}
        self._baseline: Baseline
        self._asked = self._trainings = 0
        self._began_s = self._baseline_s = self._searched_s = self._saved_s = 0.0
        self._budget_s = self._search_s = 0.0

    def run(self) -> None:
        """From wherever the ledger stands to the campaign's end."""
        self._began_s = self.now_s()
        known = self.client.campaign(self.campaign.name).get("baseline") or {}
        self._baseline = establish(self._jobs, self._requests, known, self.builders)
        self._baseline_s = float(known.get("baseline_s", self.now_s() - self._began_s))
        self._budget_s = self.campaign.budget.search_s(self._baseline_s)
        self._search_s = self._budget_s * (1 - SHARE if self._extends else 1)
        self._searched_s = float(known.get("searched_s", 0.0))
        self._extended = list(known.get("extended", ()))
        self._resume(known.get("trained", {}))
        self._began_s = self.now_s()
        self._save()
        while self._step():
            pass
        self._finish()

    def _save(self, state: str = "running") -> None:
        self._saved_s = self._elapsed_s()
        document = {**self._baseline.document, "baseline_s": self._baseline_s,
                    "searched_s": self._saved_s, "together": self._together, "notes": self._notes,
                    "extended": self._extended,
                    "trained": {str(c.trial): c.kept for c in self._flow.values()
                                if c.stage in ("full", "measuring again")}}
        self.client.set_state(self.campaign.name, state, baseline=document)

    def _elapsed_s(self) -> float:
        return self._searched_s + self.now_s() - self._began_s

    def _resume(self, trained: Mapping[str, Mapping[str, Any]]) -> None:
        """Take up what the ledger holds: told trials teach the sampler, running ones go on; those
        that are ``trained`` need no time of the search any more."""
        rows = self.client.trials(self.campaign.name)
        self._prospects = Prospects(self.campaign, self.sampling.space, self._baseline.values)
        for row in rows:
            self._seen.add(row["recipe"])
            recipe, values = Recipe.from_list(row["steps"]), row["values"] or {}
            if "latency_s" in values:
                self._prospects.measured(recipe, values)
            if "accuracy" in values:
                self._prospects.trained(
                    recipe, values, "full" if row["state"] == "complete" else "short")
        points = [p for p in map(trial_point, rows) if p is not None]
        self._front = front_of(points, self.campaign.objectives)
        numbers = self.sampling.restore(rows)
        self._asked = len(rows)
        self._trainings = self._asked // TURNOVER
        for row in rows:
            if row["state"] == "running":
                candidate = Candidate(row["id"], numbers[row["id"]],
                                      Recipe.from_list(row["steps"]))
                self._start(candidate, trained.get(str(row["id"])))

    def _step(self) -> bool:
        """One turn of the loop; False when nothing is left to do."""
        time_is_up = self._elapsed_s() >= self._search_s
        if time_is_up:
            self._give_up_early_stages()
        else:
            self._ask_ahead()
        self._send_measurements(time_is_up)
        if not time_is_up:
            self._train_best()
        held = len(self._windows.held) if time_is_up else 0
        if len(self._flow) == held and not self._jobs.has_news:
            return False
        left_s = self._search_s - self._elapsed_s()
        self._jobs.listen(LISTEN_S if left_s <= 0 else min(left_s, LISTEN_S))
        if self._elapsed_s() - self._saved_s >= SAVE_EVERY_S:
            self._save()
        return True

    def _count(self, *stages: str) -> int:
        return sum(c.stage in stages for c in self._flow.values())

    def _ask_ahead(self) -> None:
        failures = 0
        while (self._asked < self.campaign.budget.candidates and failures < 100
               and (self._asked < STARTUP_TRIALS + TURNOVER * self._trainings
                    or self._count("compressing", "measuring", "waiting") < AHEAD)
               and self._count("compressing", "measuring") < AHEAD
               and self._count("waiting") < POOL):
            front = front_of(self._standing(), self.campaign.objectives)
            proposal = self.sampling.ask(functools.partial(self._prospect, front))
            if proposal.recipe.hash in self._seen:
                self.sampling.tell(proposal.number, "failed", None, {})
                failures += 1
                continue
            self._seen.add(proposal.recipe.hash)
            self._asked += 1
            trial = self.client.create_trial(
                self.campaign.name, self.device, proposal.recipe.hash, proposal.recipe.as_list(),
                parameters=proposal.parameters)
            self._start(Candidate(trial["id"], proposal.number, proposal.recipe))

    def _start(self, candidate: Candidate, trained: Mapping[str, Any] | None = None) -> None:
        self._flow[candidate.trial] = candidate
        if trained is not None:
            candidate.take_up(trained)
            self._train(candidate, "full")
            return
        self._jobs.submit("compress", self._requests.compress(candidate.recipe),
                          PRIORITY["compress"],
                          lambda job: self._compressed(candidate, job))

    def _compressed(self, candidate: Candidate, job: Job) -> None:
        if not self._succeeded(candidate, job):
            return
        candidate.build = job["result"]
        candidate.values |= {"file_bytes": candidate.build["file_bytes"],
                             "macs": candidate.build["report"]["macs"]}
        self._windows.add(candidate, "measuring")

    def _send_measurements(self, time_is_up: bool) -> None:
        self._windows.send(
            self._baseline.document,
            coming={True: bool(self._count("compressing")),
                    False: bool(self._count("short", "full")) and not time_is_up},
            idle=not self._count("compressing", "waiting", "short", "full"),
            hold=time_is_up)

    def _measured(self, candidate: Candidate) -> None:
        if candidate.stage == "measuring again":
            self._complete(candidate, measured=True)
            return
        self._prospects.measured(candidate.recipe, candidate.values)
        candidate.stage = "waiting"
        self._reconsider(candidate)

    def _reconsider(self, candidate: Candidate) -> None:
        """Prune a measured candidate that training cannot bring onto the front any more."""
        standing = self._standing()
        best = max([self._baseline.values["accuracy"],
                    *(p.values["accuracy"] for p in standing if p.feasible)])
        refused = why_not_train(candidate.hopeful, self.campaign.constraints, best, standing,
                                self.campaign.objectives)
        if refused is not None:
            self._tell(candidate, "pruned", reason=refused[0], constraints=refused[1])

    def _standing(self) -> list[Point]:
        """The front, and trained candidates that wait to be measured: their latency is that of
        their untrained graph."""
        return [*self._front, *(Point(c.trial, c.values, True) for c in self._flow.values()
                                 if c.stage == "measuring again")]

    def _prospect(self, front: Sequence[Point], recipe: Recipe) -> float:
        """What a recipe promises that was not built yet."""
        return -1.0 if recipe.hash in self._seen else self._prospects.unbuilt(recipe, front)

    def _train_best(self) -> None:
        """Keep every builder busy with the most promising of the measured candidates."""
        for candidate in [c for c in self._flow.values() if c.stage == "waiting"]:
            self._reconsider(candidate)
        while self._count("short", "full") < self.builders + 1:
            waiting = [c for c in self._flow.values() if c.stage == "waiting"]
            if not waiting:
                return
            front = front_of(self._standing(), self.campaign.objectives)
            gains = {c.trial: self._prospects.gain(c.recipe, c.values, front) for c in waiting}
            *rest, best = sorted(waiting, key=lambda c: (gains[c.trial], -c.trial))
            self._train(best, "short")
            for least in rest[:TURNOVER] if len(waiting) >= POOL else ():
                self._tell(least, "pruned",
                           reason="all others that waited for training promised more")

    def _train(self, candidate: Candidate, fidelity: str) -> None:
        self._trainings += fidelity == "short"
        candidate.stage = fidelity
        if fidelity == "full":
            self._save()
        self._jobs.submit("train", self._requests.train(candidate.recipe, fidelity),
                          PRIORITY[fidelity], lambda job: self._trained(candidate, job))

    def _trained(self, candidate: Candidate, job: Job) -> None:
        if candidate.trial not in self._flow or not self._succeeded(candidate, job):
            return
        candidate.build = job["result"]
        values, intervals = accuracy_of(candidate.build["evaluation"], self._baseline.correct)
        candidate.values |= {**values, "file_bytes": candidate.build["file_bytes"]}
        candidate.intervals |= intervals
        self._prospects.trained(candidate.recipe, candidate.values, candidate.stage)
        drop, allowed = candidate.values["accuracy_drop"], self.campaign.constraints.get(
            "accuracy_drop")
        if candidate.stage == "short":
            self._after_short(candidate, drop, allowed)
            return
        if allowed is None or drop <= allowed:
            self.sampling.favour(candidate.number, candidate.values)
        broken = any(v > 0 for v in excess(candidate.values, self.campaign.constraints).values())
        # By what was measured only: a point must not be lost to one that may never be.
        off_front = shortfall(candidate.hopeful, candidate.values["accuracy"], self._front,
                              self.campaign.objectives) > 0
        if broken or off_front:
            self._complete(candidate, measured=False)
        else:
            self._windows.add(candidate, "measuring again")

    def _after_short(self, candidate: Candidate, drop: float, allowed: float | None) -> None:
        hoped = candidate.values["accuracy"] + HEADROOM
        short = shortfall(candidate.hopeful, hoped, self._standing(), self.campaign.objectives)
        if not worth_continuing(drop, allowed):
            self._tell(candidate, "pruned", constraints={"accuracy_drop": drop - (allowed or 0.0)},
                       reason=f"short training lost {drop:.2%}, more than full training wins back")
        elif short > 0:
            self._tell(candidate, "pruned", constraints={"reach": short},
                       reason="cannot reach the front with what short training gave")
        else:
            if allowed is None or drop <= allowed:
                self.sampling.favour(candidate.number, candidate.values)
            self._train(candidate, "full")

    def _failed(self, candidate: Candidate, reason: str) -> None:
        self._tell(candidate, "failed", reason=reason)

    def _succeeded(self, candidate: Candidate, job: Job) -> bool:
        if candidate.trial not in self._flow:
            return False
        if job["state"] != "done":
            self._tell(candidate, "failed", reason=job.get("reason") or job["state"],
                       message=job.get("message"))
        return bool(job["state"] == "done")

    def _complete(self, candidate: Candidate, measured: bool) -> None:
        constraints = excess(candidate.values, self.campaign.constraints)
        feasible = measured and all(v <= 0 for v in constraints.values())
        point = Point(candidate.trial, dict(candidate.values), feasible)
        self._front = front_of([*self._front, point], self.campaign.objectives)
        reason = None if measured else (
            "breaks a constraint after training" if any(v > 0 for v in constraints.values())
            else "another candidate is better on every objective; latency is that of its "
                 "untrained graph")
        self._tell(candidate, "complete", reason=reason, constraints=constraints)

    def _tell(self, candidate: Candidate, state: TrialState, reason: str | None = None,
              message: str | None = None, constraints: Mapping[str, float] | None = None) -> None:
        self._flow.pop(candidate.trial, None)
        self.client.tell_trial(
            candidate.trial, state, values=candidate.values, intervals=candidate.intervals,
            constraints=dict(constraints or {}), reason=reason, message=message,
            sha256=candidate.build.get("sha256"), measurement=candidate.measured.get("measurement"))
        self.sampling.tell(candidate.number, state, candidate.values, constraints or {})
        self._save()

    def _give_up_early_stages(self) -> None:
        """The time is up: only what is nearly done is finished."""
        for candidate in list(self._flow.values()):
            if candidate.stage in ("compressing", "measuring", "waiting", "short"):
                self._windows.drop(candidate)
                self._tell(candidate, "pruned", reason="the budget ended before it was trained")
        self.client.cancel_queued(self.campaign.name, ["compress"])

    def _finish(self) -> None:
        """The front trained on and measured, with what nobody had time to measure; the test split;
        the end."""
        held = {c.trial: c for c in self._windows.held}
        before = [as_told(held[row["id"]], self.campaign.constraints) if row["id"] in held else row
                  for row in self.client.trials(self.campaign.name)]
        trials = before if not self._extends else extend(
            self._jobs, self._requests, self._baseline, before, self.builders, self._may_extend)
        unmeasured = {t["id"] for t, own in zip(trials, before, strict=True) if t is not own}
        patience_ends_s = self.now_s() + PATIENCE * self._budget_s
        self._together = measure_together(
            self._jobs, self._requests, self._baseline.document, trials,
            unmeasured | set(held),
            patient=lambda: self.now_s() < patience_ends_s)
        for candidate in held.values():
            self._end_of_held(candidate, self._together.get(str(candidate.trial)))
        told = self.client.trials(self.campaign.name)
        self._together, self._baseline, notes = validated(
            self._jobs, self._requests, self._on_device, self._baseline, told, self._together)
        self._notes += notes
        self._save()
        files = final_files(self._requests, told, self._together)
        judge_on_test(self._jobs, self._requests, self._baseline, files, self._on_device)
        self._save("done")

    def _may_extend(self, trial: int) -> bool:
        """While there is time; what an earlier search of this campaign began is there, or nearly
        so."""
        if trial not in self._extended and self._elapsed_s() < self._budget_s:
            self._extended.append(trial)
            self._save()
        return trial in self._extended

    def _end_of_held(self, candidate: Candidate, entry: Mapping[str, Any] | None) -> None:
        if entry is not None and "values" not in entry:
            self._failed(candidate, entry["reason"])
            return
        candidate.values |= (entry or {}).get("values", {})
        candidate.intervals |= (entry or {}).get("intervals", {})
        candidate.measured = entry or candidate.measured
        candidate.build = {**candidate.build, **({"sha256": entry["sha256"]} if entry else {})}
        self._complete(candidate, measured=entry is not None)
