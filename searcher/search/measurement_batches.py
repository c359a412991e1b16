"""Candidates that wait for the device, put together into windows.

Untrained candidates are screened, briefly and many at a time; trained ones are measured by the
campaign's plan, in windows of their own. On a busy machine a trained one is tried again.
"""

import functools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from searcher.client.jobs import Job, JobFlow, entry_of
from searcher.search.payloads import Requests
from searcher.spec.measurement_plan import screening_plan
from searcher.spec.objectives import ENERGY_OBJECTIVES
from searcher.spec.recipe import Recipe
from searcher.statistics.energy import figures, missing_energy

PRIORITY = 10
WINDOW = 8
"""Candidates measured in one job at most."""
FEWEST = 3
"""Untrained candidates that are worth a window while builds go on."""
LONGEST_WAIT_S = 600.0
"""Trained ones wait so long for others at most: builders stand still in each window, and the
latency of their untrained graph is known. A shorter search has them measured with its front."""
ATTEMPTS = 20
"""Measurements of a trained candidate on a busy machine before it is given up."""
WIDEST, LOOKS = 0.06, 4
"""A trained candidate whose interval is wider than this (relative) was measured while the machine
changed, and its ratio may be off by tens of percent: it is looked at again, so many times in all,
and the narrowest counts."""
PASSING = frozenset({"busy", "throttled"})
"""Reasons that another time may not have; outputs that are wrong stay wrong."""
SLACK, ROUGH_SLACK = 0.03, 0.25
"""By how much the latency of a trained graph may lie below what its untrained one showed: where
quiet blocks were measured, and where a busy machine gave a rough ratio only."""


@dataclass
class Candidate:
    """One recipe on its way; ``stage`` says what it waits for."""

    trial: int
    number: int
    recipe: Recipe
    stage: str = "compressing"
    build: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    attempt: int = 1
    looks: tuple[Mapping[str, Any], ...] = ()
    since_s: float = 0.0
    slack: float = SLACK

    @property
    def kept(self) -> dict[str, Any]:
        """What the campaign keeps of one that is trained, for a search that goes on after this."""
        return {"values": self.values, "intervals": self.intervals, "slack": self.slack,
                "measurement": self.measured.get("measurement")}

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """What an earlier search knew of it."""
        self.values, self.intervals = dict(kept["values"]), dict(kept["intervals"])
        self.slack, self.measured = kept["slack"], {"measurement": kept["measurement"]}

    @property
    def hopeful(self) -> dict[str, float]:
        """Its values, with the lowest latency that a second measurement may show."""
        return {**self.values, "latency_s": self.values["latency_s"] * (1 - self.slack)}


class Windows:
    """``taken(candidate)`` is called once its latency is known, ``failed(candidate, reason)`` when
    it never will be. A candidate in stage ``measuring`` is screened, any other measured."""

    def __init__(self, jobs: JobFlow, requests: Requests, taken: Callable[[Candidate], None],
                 failed: Callable[[Candidate, str], None], now_s: Callable[[], float]) -> None:
        self._jobs, self._requests, self._taken, self._failed = jobs, requests, taken, failed
        self._now_s = now_s
        self._waiting: dict[bool, deque[Candidate]] = {True: deque(), False: deque()}
        self._dropped: set[int] = set()

    def add(self, candidate: Candidate, stage: str) -> None:
        candidate.stage, candidate.attempt, candidate.looks = stage, 1, ()
        self._append(candidate)

    def drop(self, candidate: Candidate) -> None:
        """It is not wanted any more, whether it waits or is being measured."""
        self._dropped.add(candidate.trial)
        if candidate in self._queue(candidate):
            self._queue(candidate).remove(candidate)

    @property
    def held(self) -> list[Candidate]:
        """Trained ones that wait."""
        return list(self._waiting[False])

    def _append(self, candidate: Candidate) -> None:
        candidate.since_s = self._now_s()
        self._queue(candidate).append(candidate)

    def _queue(self, candidate: Candidate) -> deque[Candidate]:
        return self._waiting[candidate.stage == "measuring"]

    def send(self, baseline: Mapping[str, Any], coming: Mapping[bool, bool], idle: bool,
             hold: bool) -> None:
        """Windows for those that wait: untrained ones when they fill one, trained ones when they
        waited long enough, any when no build would bring more.

        ``coming[True]`` says whether more will soon be there to screen, ``coming[False]`` whether
        more to measure; ``idle`` that no builder works, ``hold`` that trained ones are measured
        with the front instead.
        """
        for untrained, queue in self._waiting.items():
            if hold and not untrained:
                continue
            while queue and (idle or self._ready(untrained, coming)):
                window = [queue.popleft() for _ in range(min(WINDOW, len(queue)))]
                self._measure(baseline, window, untrained)

    def _ready(self, untrained: bool, coming: Mapping[bool, bool]) -> bool:
        queue = self._waiting[untrained]
        if untrained:
            return len(queue) >= WINDOW or (len(queue) >= FEWEST and not coming[True])
        # However many: on a busy machine they come back, and would be tried again at once.
        return not coming[False] or self._now_s() - queue[0].since_s >= LONGEST_WAIT_S

    def _measure(self, baseline: Mapping[str, Any], window: Sequence[Candidate],
                 untrained: bool) -> None:
        plan = self._requests.campaign.plan
        energy = bool(ENERGY_OBJECTIVES.intersection(self._objectives()))
        payload = self._requests.measure(
            baseline, [c.build for c in window],
            screening_plan(plan, energy) if untrained else plan,
            max(c.attempt for c in window))
        level_s = float(baseline["quiet_level_s"])
        self._jobs.submit("measure", payload, PRIORITY,
                          functools.partial(self._measured, window, level_s))

    def _measured(self, window: Sequence[Candidate], level_s: float, job: Job) -> None:
        for candidate in window:
            if candidate.trial in self._dropped:
                continue
            entry = entry_of(job, candidate.build["sha256"])
            without = missing_energy(entry.get("summary"), self._objectives())
            if without is not None:
                self._without_energy(candidate, entry, without)
                continue
            valid = entry["verdict"] == "valid"
            passing = valid or bool(PASSING.intersection(entry["reasons"]))
            candidate.looks += (entry,) if valid else ()
            if candidate.looks and passing and not self._look_again(candidate):
                entry = min(candidate.looks, key=relative_width)
                candidate.values |= _latency(entry["ratio"], level_s)
                candidate.intervals["latency_s"] = [
                    entry["ratio_low"] * level_s, entry["ratio_high"] * level_s]
                values, intervals = figures(entry.get("summary"))
                candidate.values |= values
                candidate.intervals |= intervals
            elif entry.get("rough_ratio") and candidate.stage == "measuring":
                # A busy machine shows well enough what to train; no front gets to see it.
                candidate.values |= _latency(entry["rough_ratio"], level_s)
                candidate.slack = ROUGH_SLACK
            elif passing and candidate.attempt < ATTEMPTS:
                candidate.attempt += 1
                self._append(candidate)
                continue
            else:
                self._failed(candidate, ", ".join(entry["reasons"]) or "not measured")
                continue
            candidate.measured = entry
            self._taken(candidate)

    def _objectives(self) -> list[str]:
        return [objective.name for objective in self._requests.campaign.objectives]

    def _without_energy(self, candidate: Candidate, entry: Mapping[str, Any], why: str) -> None:
        """Tried again where that may help: while the machine is busy, or the meter had gaps."""
        if entry["verdict"] != "failed" and candidate.attempt < ATTEMPTS:
            candidate.attempt += 1
            self._append(candidate)
        else:
            self._failed(candidate, ", ".join([*entry["reasons"], why]))

    def _look_again(self, candidate: Candidate) -> bool:
        """Whether what was measured so far is too vague, and more may be had."""
        return (candidate.stage != "measuring" and len(candidate.looks) < LOOKS
                and candidate.attempt < ATTEMPTS
                and min(map(relative_width, candidate.looks)) > WIDEST)


def relative_width(entry: Mapping[str, Any]) -> float:
    """Of the interval of a valid measurement, relative to its ratio."""
    return float((entry["ratio_high"] - entry["ratio_low"]) / entry["ratio"])


def _latency(ratio: float, level_s: float) -> dict[str, float]:
    return {"latency_ratio": ratio, "latency_s": ratio * level_s}
