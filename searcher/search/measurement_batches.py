"""Candidates that wait for the device, put together into jobs.

Untrained candidates are screened, briefly and many at a time; trained ones are measured by the
campaign's plan, in jobs of their own. On a busy machine a trained one is tried again.
"""

import functools
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from searcher.client.jobs import EndedJob, JobFlow
from searcher.jobs.measure import file_of
from searcher.ledger.tables.search_state import BaselineState
from searcher.search.candidate import ROUGH_SLACK, Candidate
from searcher.search.payloads import MEASURE, Requests, reference_of
from searcher.spec.measurement_plan import screening_plan
from searcher.spec.objectives import ENERGY_OBJECTIVES
from searcher.statistics.energy import figures, missing_energy
from searcher.statistics.measured import FileMeasurement, MeasureResult, Ratio

BATCH = 8
"""Candidates measured in one job at most."""
FEWEST = 3
"""Untrained candidates that are worth a quiet window while builds go on."""
LONGEST_WAIT_S = 600.0
"""Longest wait of a trained candidate for others: builders are stopped in each quiet window, and
the latency of its untrained graph is known. A shorter search measures them with its front."""
ATTEMPTS = 20
"""Measurements of a trained candidate on a busy machine before it is given up."""
WIDEST, LOOKS = 0.06, 4
"""Largest relative width of the interval of a trained candidate. A wider one was measured while the
machine changed, and its ratio may be off by tens of percent: it is measured again, up to ``LOOKS``
times in all, and the narrowest counts."""
PASSING = frozenset({"busy", "throttled"})
"""Reasons that another time may not have; outputs that are wrong stay wrong."""


class MeasurementBatches:
    """``taken(candidate)`` is called once its latency is known, ``failed(candidate, reason,
    message)`` when it cannot be measured. A candidate in stage ``measuring`` is screened, any other
    measured."""

    def __init__(self, jobs: JobFlow, requests: Requests, taken: Callable[[Candidate], None],
                 failed: Callable[[Candidate, str, str], None], now_s: Callable[[], float]) -> None:
        self._jobs, self._requests, self._taken, self._failed = jobs, requests, taken, failed
        self._now_s = now_s
        self._waiting: dict[bool, deque[Candidate]] = {True: deque(), False: deque()}
        self._dropped: set[int] = set()

    def add(self, candidate: Candidate, stage: str) -> None:
        candidate.stage, candidate.attempt, candidate.looks = stage, 1, ()
        self._append(candidate)

    def drop(self, candidate: Candidate) -> None:
        """Withdraw a candidate, whether it waits or is being measured."""
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

    def send(self, baseline: BaselineState, coming: Mapping[bool, bool], idle: bool,
             hold: bool) -> None:
        """Jobs for those that wait: untrained ones when they fill a batch, trained ones when they
        waited long enough, any when no build would bring more.

        ``coming[True]`` says whether more will soon be there to screen, ``coming[False]`` whether
        more to measure; ``idle`` that no builder works, ``hold`` that trained ones are measured
        with the front instead.
        """
        for untrained, queue in self._waiting.items():
            if hold and not untrained:
                continue
            while queue and (idle or self._ready(untrained, coming)):
                batch = [queue.popleft() for _ in range(min(BATCH, len(queue)))]
                self._measure(baseline, batch, untrained)

    def _ready(self, untrained: bool, coming: Mapping[bool, bool]) -> bool:
        queue = self._waiting[untrained]
        if untrained:
            return len(queue) >= BATCH or (len(queue) >= FEWEST and not coming[True])
        # However many: on a busy machine they come back, and would be tried again at once.
        return not coming[False] or self._now_s() - queue[0].since_s >= LONGEST_WAIT_S

    def _measure(self, baseline: BaselineState, batch: Sequence[Candidate],
                 untrained: bool) -> None:
        plan = self._requests.campaign.plan
        energy = bool(ENERGY_OBJECTIVES.intersection(self._objectives()))
        request = self._requests.measure(
            reference_of(baseline), [c.file for c in batch],
            screening_plan(plan, energy) if untrained else plan, max(c.attempt for c in batch),
            baseline.quiet_level_s)
        self._jobs.submit(request, MEASURE,
                          functools.partial(self._measured, batch, baseline.quiet_level_s))

    def _measured(self, batch: Sequence[Candidate], level_s: float,
                  job: EndedJob[MeasureResult]) -> None:
        for candidate in batch:
            if candidate.trial in self._dropped:
                continue
            if job.result is None:
                self._failed(candidate, job.reason or job.state, job.why)
            else:
                self._decide(candidate, file_of(job, candidate.file.sha256), level_s)

    def _decide(self, candidate: Candidate, entry: FileMeasurement, level_s: float) -> None:
        """Take what was measured, try again, or fail."""
        without = missing_energy(entry.summary, self._objectives())
        if without is not None:
            self._without_energy(candidate, entry, without)
            return
        valid = entry.verdict == "valid"
        passing = valid or bool(PASSING.intersection(entry.reasons))
        candidate.looks += (entry,) if valid else ()
        if candidate.looks and passing and not self._look_again(candidate):
            entry = min(candidate.looks, key=relative_width)
            self._enter(candidate, entry, level_s)
        elif entry.rough_ratio and candidate.stage == "measuring":
            # A busy machine shows well enough what to train; it never enters a front.
            candidate.values |= _latency(entry.rough_ratio, level_s)
            candidate.slack = ROUGH_SLACK
        elif passing and candidate.attempt < ATTEMPTS:
            candidate.attempt += 1
            self._append(candidate)
            return
        else:
            self._fail(candidate, entry.reasons)
            return
        candidate.measurement = entry.measurement
        self._taken(candidate)

    def _enter(self, candidate: Candidate, entry: FileMeasurement, level_s: float) -> None:
        ratio = ratio_of(entry)
        candidate.values |= _latency(ratio.value, level_s)
        candidate.intervals["latency_s"] = [ratio.low * level_s, ratio.high * level_s]
        values, intervals = figures(entry.summary)
        candidate.values |= values
        candidate.intervals |= intervals

    def _objectives(self) -> list[str]:
        return [objective.name for objective in self._requests.campaign.objectives]

    def _without_energy(self, candidate: Candidate, entry: FileMeasurement, why: str) -> None:
        """Tried again where that may help: while the machine is busy, or the meter had gaps."""
        if entry.verdict != "failed" and candidate.attempt < ATTEMPTS:
            candidate.attempt += 1
            self._append(candidate)
        else:
            self._fail(candidate, [*entry.reasons, why])

    def _fail(self, candidate: Candidate, reasons: Sequence[str]) -> None:
        why = ", ".join(reasons) or "not measured"
        self._failed(candidate, why, why)

    def _look_again(self, candidate: Candidate) -> bool:
        """Whether what was measured so far is too vague, and more may be had."""
        return (candidate.stage != "measuring" and len(candidate.looks) < LOOKS
                and candidate.attempt < ATTEMPTS
                and min(map(relative_width, candidate.looks)) > WIDEST)


def ratio_of(entry: FileMeasurement) -> Ratio:
    """Of a valid measurement. Raises ValueError for one without."""
    if entry.latency_ratio is None:
        raise ValueError(f"{entry.sha256} is called valid but has no ratio")
    return entry.latency_ratio


def relative_width(entry: FileMeasurement) -> float:
    """Of the interval of a valid measurement, relative to its ratio."""
    return ratio_of(entry).relative_width


def _latency(ratio: float, level_s: float) -> dict[str, float]:
    return {"latency_ratio": ratio, "latency_s": ratio * level_s}
