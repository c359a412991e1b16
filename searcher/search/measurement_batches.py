"""Batches of candidates that wait for the device.

Untrained candidates are screened with a short plan, many per job. Trained candidates are measured
with the campaign's plan in separate jobs, and again when the machine was busy.
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
"""Maximum number of candidates per job."""
SMALLEST_SCREENING = 3
"""Smallest batch of untrained candidates that justifies a quiet window while builds run."""
LONGEST_SCREENING_WAIT_S = 15.0
"""Longest time that an untrained candidate waits for others: the next recipes depend on it."""
LONGEST_WAIT_S = 600.0
"""Longest time that a trained candidate waits for others. Builders are stopped in each quiet
window, and the latency of the untrained graph is already known. A shorter search measures trained
candidates together with the front."""
ATTEMPTS = 20
"""Attempts to measure a trained candidate on a busy machine before it fails."""
WIDEST_INTERVAL, MOST_MEASUREMENTS = 0.06, 4
"""Largest relative width of the interval of a trained candidate. A wider interval means that the
machine changed during the measurement, and the ratio may be wrong by tens of percent. The file is
then measured again, up to ``MOST_MEASUREMENTS`` times in all, and the narrowest interval counts."""
TRANSIENT = frozenset({"busy", "throttled"})
"""Reasons that may not apply to a later attempt, unlike wrong outputs."""


class MeasurementBatches:
    """Queues of candidates for the device. A candidate in stage ``measuring`` is screened, any
    other is measured. ``on_measured(candidate)`` is called when its latency is known,
    ``on_failed(candidate, reason, message)`` when it cannot be measured."""

    def __init__(self, jobs: JobFlow, requests: Requests, on_measured: Callable[[Candidate], None],
                 on_failed: Callable[[Candidate, str, str], None],
                 now_s: Callable[[], float]) -> None:
        self._jobs, self._requests, self._now_s = jobs, requests, now_s
        self._on_measured, self._on_failed = on_measured, on_failed
        self._waiting: dict[bool, deque[Candidate]] = {True: deque(), False: deque()}
        self._dropped: set[int] = set()

    def add(self, candidate: Candidate, stage: str) -> None:
        candidate.stage, candidate.attempt, candidate.valid_measurements = stage, 1, ()
        self._append(candidate)

    def drop(self, candidate: Candidate) -> None:
        """Remove a candidate from its queue, or ignore its running measurement."""
        self._dropped.add(candidate.trial)
        if candidate in self._queue(candidate):
            self._queue(candidate).remove(candidate)

    @property
    def held(self) -> list[Candidate]:
        """Trained candidates in the queue."""
        return list(self._waiting[False])

    def _append(self, candidate: Candidate) -> None:
        candidate.since_s = self._now_s()
        self._queue(candidate).append(candidate)

    def _queue(self, candidate: Candidate) -> deque[Candidate]:
        return self._waiting[candidate.stage == "measuring"]

    def send(self, baseline: BaselineState, more_expected: Mapping[bool, bool], idle: bool,
             hold: bool) -> None:
        """Submit jobs: for untrained candidates when they fill a batch, for trained ones after
        their longest wait, for all when no build can add more.

        ``more_expected[True]`` says whether further candidates will soon be ready for screening,
        ``more_expected[False]`` the same for measurement. ``idle``: no builder works. ``hold``:
        trained candidates stay queued and are measured with the front.
        """
        for untrained, queue in self._waiting.items():
            if hold and not untrained:
                continue
            while queue and (idle or self._ready(untrained, more_expected)):
                batch = [queue.popleft() for _ in range(min(BATCH, len(queue)))]
                self._measure(baseline, batch, untrained)

    def _ready(self, untrained: bool, more_expected: Mapping[bool, bool]) -> bool:
        queue = self._waiting[untrained]
        if untrained:
            waited_s = self._now_s() - queue[0].since_s
            return len(queue) >= BATCH or waited_s >= LONGEST_SCREENING_WAIT_S or (
                len(queue) >= SMALLEST_SCREENING and not more_expected[True])
        # The number does not matter: on a busy machine a full batch would be repeated at once.
        return not more_expected[False] or self._now_s() - queue[0].since_s >= LONGEST_WAIT_S

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
            candidate.took_s += job.took_s / len(batch)
            if job.result is None:
                self._on_failed(candidate, job.reason or job.state, job.why)
            else:
                self._decide(candidate, file_of(job, candidate.file.sha256), level_s)

    def _decide(self, candidate: Candidate, entry: FileMeasurement, level_s: float) -> None:
        """Use the measurement, repeat it, or fail the candidate."""
        without = missing_energy(entry.summary, self._objectives())
        if without is not None:
            self._without_energy(candidate, entry, without)
            return
        valid = entry.verdict == "valid"
        transient = valid or bool(TRANSIENT.intersection(entry.reasons))
        candidate.valid_measurements += (entry,) if valid else ()
        if candidate.valid_measurements and transient and not self._needs_repeat(candidate):
            entry = min(candidate.valid_measurements, key=relative_width)
            self._set_figures(candidate, entry, level_s)
        elif entry.rough_ratio and candidate.stage == "measuring":
            # A rough ratio suffices to decide about training; it never enters a front.
            candidate.values |= _latency(entry.rough_ratio, level_s)
            candidate.slack = ROUGH_SLACK
        elif transient and candidate.attempt < ATTEMPTS:
            candidate.attempt += 1
            self._append(candidate)
            return
        else:
            self._fail(candidate, entry.reasons)
            return
        candidate.measurement = entry.measurement
        self._on_measured(candidate)

    def _set_figures(self, candidate: Candidate, entry: FileMeasurement, level_s: float) -> None:
        ratio = ratio_of(entry)
        candidate.values |= _latency(ratio.value, level_s)
        candidate.intervals["latency_s"] = [ratio.low * level_s, ratio.high * level_s]
        values, intervals = figures(entry.summary)
        candidate.values |= values
        candidate.intervals |= intervals

    def _objectives(self) -> list[str]:
        return [objective.name for objective in self._requests.campaign.objectives]

    def _without_energy(self, candidate: Candidate, entry: FileMeasurement, why: str) -> None:
        """Repeat a measurement without energy figures unless the file failed or no attempts are
        left."""
        if entry.verdict != "failed" and candidate.attempt < ATTEMPTS:
            candidate.attempt += 1
            self._append(candidate)
        else:
            self._fail(candidate, [*entry.reasons, why])

    def _fail(self, candidate: Candidate, reasons: Sequence[str]) -> None:
        why = ", ".join(reasons) or "not measured"
        self._on_failed(candidate, why, why)

    def _needs_repeat(self, candidate: Candidate) -> bool:
        """Whether the intervals of a trained candidate are too wide and another measurement is
        allowed."""
        found = candidate.valid_measurements
        return (candidate.stage != "measuring" and len(found) < MOST_MEASUREMENTS
                and candidate.attempt < ATTEMPTS
                and min(map(relative_width, found)) > WIDEST_INTERVAL)


def ratio_of(entry: FileMeasurement) -> Ratio:
    """The latency ratio of a valid measurement. Raises ValueError without one."""
    if entry.latency_ratio is None:
        raise ValueError(f"{entry.sha256} is called valid but has no ratio")
    return entry.latency_ratio


def relative_width(entry: FileMeasurement) -> float:
    """Width of the interval of a valid measurement, relative to its ratio."""
    return ratio_of(entry).relative_width


def _latency(ratio: float, level_s: float) -> dict[str, float]:
    return {"latency_ratio": ratio, "latency_s": ratio * level_s}
