"""The end of a campaign: joint measurement of the front, then one evaluation on the test split.

    search ends --> extended training (``searcher.search.extended_training``)
                --> measure the front, its contenders, and trained files without a measurement,
                    in one job
                    |  busy: repeat while there is time; the last attempt uses the current
                    v        quiet level of the machine
                    front of these figures --> the baseline and each member on the test split
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from agents.protocol import MeasurePlan
from searcher.client.jobs import EndedJob, JobFlow
from searcher.client.records import Trial
from searcher.jobs.evaluate import EvaluationResult
from searcher.jobs.measure import MOST_CANDIDATES, file_of
from searcher.ledger.tables.search_state import (
    BaselineState,
    FileRef,
    JointEntry,
    JointMeasurement,
)
from searcher.pareto.front import front_of
from searcher.pareto.joint import contenders, trial_point, with_joint_measurement
from searcher.search.candidate import Candidate
from searcher.search.device_quality import OnDevice, device_evaluations
from searcher.search.measurement_batches import (
    BATCH,
    TRANSIENT,
    WIDEST_INTERVAL,
    ratio_of,
    relative_width,
)
from searcher.search.payloads import FINAL_EVALUATION, FINAL_MEASUREMENT, Requests, reference_of
from searcher.statistics.measured import FileMeasurement

RETRY_FRACTION = 0.08
"""Fraction of the budget spent retrying the final measurement on a busy machine."""
MAX_GROUP_BYTES = 256 * 2**20
"""Limit for one group: every file is open at once and may decode to the size of the baseline."""
MAX_BLOCKS, MIN_BLOCKS = 60, 8
"""Number of blocks of the first attempt, enough to order the members of the front; and of the last
attempts, the least that still bounds a median on a machine that is quiet in one block of twenty."""


def measure_together(flow: JobFlow, requests: Requests, baseline: BaselineState,
                     trials: Sequence[Trial], unmeasured: Collection[int],
                     may_retry: Callable[[], bool]) -> dict[int, JointEntry]:
    """Measure the front and its contenders in one job, and repeat for disturbed files.

    ``unmeasured`` are trials whose latency is that of another file with the same structure. A file
    that cannot be measured gets an entry with a ``reason`` and no figures; its trial keeps its
    earlier figures. ``may_retry()`` says whether there is time for another attempt.
    """
    waiting = _chosen(requests, trials, unmeasured)
    found = {t.id: JointEntry(t.sha256 or "") for t in waiting}
    attempt, last = 1, False
    while waiting:
        busy: list[Trial] = []
        for group in _groups(waiting, baseline.file_bytes):
            request = requests.measure(
                reference_of(baseline), [_file(t) for t in group],
                joint_plan(requests.campaign.plan, 3 if last else attempt), attempt,
                None if last else baseline.quiet_level_s)
            job = flow.wait_for(request, FINAL_MEASUREMENT)
            for trial in group:
                entry = file_of(job, trial.sha256 or "")
                if entry.verdict == "valid" and (last or relative_width(entry) <= WIDEST_INTERVAL):
                    found[trial.id] = joint_entry(
                        trial, entry, baseline.quiet_level_s, requests)
                    continue
                found[trial.id] = replace(
                    found[trial.id], reason=", ".join(entry.reasons) or "vague")
                if entry.verdict == "valid" or TRANSIENT.intersection(entry.reasons):
                    busy.append(trial)
        if may_retry():
            waiting = busy
        else:
            # A figure from a quiet machine is better than a new one from a busy machine.
            waiting = [] if last else [t for t in busy if t.id in unmeasured]
            last = True
        attempt += 1
    return found


def joint_plan(plan: MeasurePlan, attempt: int) -> MeasurePlan:
    """The plan of an attempt: many blocks first, then the number in ``plan``, then few, whose
    wider interval shows the uncertainty. Memory is not measured again."""
    blocks = {1: max(plan.min_blocks, MAX_BLOCKS), 2: plan.min_blocks}
    return plan._replace(name=f"{plan.name}-together", energy_s=0.0, idle_s=0.0,
                         min_blocks=blocks.get(attempt, min(plan.min_blocks, MIN_BLOCKS)),
                         memory=False)


def joint_entry(trial: Trial, measured: FileMeasurement, level_s: float,
                requests: Requests) -> JointEntry:
    """The figures of ``trial``, whose file may be from extended training, with the latency of
    ``measured``."""
    ratio = ratio_of(measured)
    values = {**(trial.values or {}), "latency_ratio": ratio.value,
              "latency_s": ratio.value * level_s}
    intervals = {**(trial.intervals or {}),
                 "latency_s": [ratio.low * level_s, ratio.high * level_s]}
    return JointEntry(trial.sha256 or "", values, intervals, requests.excess(values),
                      measured.measurement)


def final_trial(trial: Trial, candidate: Candidate, requests: Requests) -> Trial:
    """The row of a trained candidate as it will be after its measurement."""
    return replace(
        trial, state="complete", reason=None, values=dict(candidate.values),
        sha256=candidate.sha256, intervals=dict(candidate.intervals),
        constraints=requests.excess(candidate.values))


def _chosen(requests: Requests, trials: Sequence[Trial],
            unmeasured: Collection[int]) -> list[Trial]:
    """The trials to measure, by increasing latency. Empty when no latencies need to be compared
    and no member of the front lacks a measurement."""
    objectives = requests.campaign.objectives
    points = [p for p in map(trial_point, trials) if p is not None]
    near = [p.trial for p in contenders(points, objectives)]
    comparable = len(near) > 1 and any(o.name == "latency_s" for o in objectives)
    by_id = {t.id: t for t in trials}
    return [by_id[i] for i in near] if comparable or set(near) & set(unmeasured) else []


def _groups(trials: Sequence[Trial], baseline_bytes: int) -> list[Sequence[Trial]]:
    """Groups for one job each, in order of latency, so that similar files are in one group."""
    most = max(BATCH, min(MOST_CANDIDATES, MAX_GROUP_BYTES // max(int(baseline_bytes), 1)))
    return [trials[start:start + most] for start in range(0, len(trials), most)]


def _file(trial: Trial) -> FileRef:
    return FileRef(trial.sha256 or "", int((trial.values or {})["file_bytes"]))


def final_files(requests: Requests, trials: Iterable[Trial],
                joint: JointMeasurement) -> dict[str, int]:
    """The files of the front (bytes by sha256), from the joint figures if there are any."""
    rows = {t.id: with_joint_measurement(t, joint) for t in trials if not joint or t.id in joint}
    points = [p for p in map(trial_point, rows.values()) if p is not None]
    return {str(rows[p.trial].sha256): int(p.values["file_bytes"])
            for p in front_of(points, requests.campaign.objectives)}


def evaluate_on_test(flow: JobFlow, requests: Requests, baseline: BaselineState,
                     front: Mapping[str, int], on_device: OnDevice | None) -> None:
    """Evaluate the baseline and each file of the front (bytes by sha256) on the test split, on the
    host or on the device as for validation. Returns after the last evaluation."""
    files = {baseline.sha256: baseline.file_bytes, **front}
    if on_device is not None and baseline.on_device is not None:
        device_evaluations(flow, requests, on_device, files, "test")
        return
    ended: list[EndedJob[EvaluationResult]] = []
    for sha256 in files:
        flow.submit(requests.evaluate(sha256, "test"), FINAL_EVALUATION, ended.append)
    while len(ended) < len(files):
        flow.listen(20.0)
