"""The end of a campaign: its front measured together, then the test split, once.

    search is over --> train on what is about to be the front (``search.extended_training``)
                   --> measure the front's members, what is close to them, and what was trained
                       and not measured yet, in one job
                       |  busy: those again, while there is patience; the last time by the
                       v        machine's own level of that moment
                       front of these figures --> test accuracy of the baseline and of each member
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
from searcher.pareto.front import excess, front_of
from searcher.pareto.joint import contenders, trial_point, with_joint_measurement
from searcher.search.candidate import Candidate
from searcher.search.device_accuracy import OnDevice, answers
from searcher.search.measurement_batches import BATCH, PASSING, WIDEST, ratio_of, relative_width
from searcher.search.payloads import FINAL_EVALUATION, FINAL_MEASUREMENT, Requests, reference_of
from searcher.statistics.measured import FileMeasurement

MOST_BYTES = 256 * 2**20
"""Decoded, each file is as large as the baseline, and all are open at once."""
MOST_BLOCKS, FEWEST_BLOCKS = 60, 8
"""Enough blocks to tell members apart; and those that still bound a median, on a machine that is
quiet in one block of twenty."""


def measure_together(flow: JobFlow, requests: Requests, baseline: BaselineState,
                     trials: Sequence[Trial], unmeasured: Collection[int],
                     patient: Callable[[], bool]) -> dict[int, JointEntry]:
    """The figures of the front and of what is close to it.

    ``unmeasured`` are trials whose latency is that of another file of their structure. What cannot
    be measured is named with the ``reason`` instead of figures, and keeps its own.
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
                if entry.verdict == "valid" and (last or relative_width(entry) <= WIDEST):
                    found[trial.id] = joint_entry(
                        trial, entry, baseline.quiet_level_s, requests.campaign.constraints)
                    continue
                found[trial.id] = replace(
                    found[trial.id], reason=", ".join(entry.reasons) or "vague")
                if entry.verdict == "valid" or PASSING.intersection(entry.reasons):
                    busy.append(trial)
        if patient():
            waiting = busy
        else:
            # Those with a figure of a quiet machine keep it rather than take one of a busy one.
            waiting = [] if last else [t for t in busy if t.id in unmeasured]
            last = True
        attempt += 1
    return found


def joint_plan(plan: MeasurePlan, attempt: int) -> MeasurePlan:
    """At first with many blocks, then as many as the plan itself asks for, then few: their
    interval says what they are worth. Memory was measured before."""
    blocks = {1: max(plan.min_blocks, MOST_BLOCKS), 2: plan.min_blocks}
    return plan._replace(name=f"{plan.name}-together", energy_s=0.0, idle_s=0.0,
                   min_blocks=blocks.get(attempt, min(plan.min_blocks, FEWEST_BLOCKS)),
                   memory=False)


def joint_entry(trial: Trial, measured: FileMeasurement, level_s: float,
                constraints: Mapping[str, float]) -> JointEntry:
    """The figures of ``trial``, whose file may be one that was trained on, with the latency of
    ``measured``."""
    ratio = ratio_of(measured)
    values = {**(trial.values or {}), "latency_ratio": ratio.value,
              "latency_s": ratio.value * level_s}
    intervals = {**(trial.intervals or {}),
                 "latency_s": [ratio.low * level_s, ratio.high * level_s]}
    return JointEntry(trial.sha256 or "", values, intervals, excess(values, constraints),
                      measured.measurement)


def final_trial(trial: Trial, candidate: Candidate, constraints: Mapping[str, float]) -> Trial:
    """The row of a trained candidate as it will be once it is measured."""
    return replace(
        trial, state="complete", reason=None, values=dict(candidate.values),
        sha256=candidate.sha256, intervals=dict(candidate.intervals),
        constraints=excess(candidate.values, constraints))


def _chosen(requests: Requests, trials: Sequence[Trial],
            unmeasured: Collection[int]) -> list[Trial]:
    """Nothing, where there is nothing to compare and nothing to be measured."""
    objectives = requests.campaign.objectives
    points = [p for p in map(trial_point, trials) if p is not None]
    close = [p.trial for p in contenders(points, objectives)]
    comparable = len(close) > 1 and any(o.name == "latency_s" for o in objectives)
    by_id = {t.id: t for t in trials}
    return [by_id[i] for i in close] if comparable or set(close) & set(unmeasured) else []


def _groups(trials: Sequence[Trial], baseline_bytes: int) -> list[Sequence[Trial]]:
    """In order of speed, so that neighbours share a group but where one ends."""
    most = max(BATCH, min(MOST_CANDIDATES, MOST_BYTES // max(int(baseline_bytes), 1)))
    return [trials[start:start + most] for start in range(0, len(trials), most)]


def _file(trial: Trial) -> FileRef:
    return FileRef(trial.sha256 or "", int((trial.values or {})["file_bytes"]))


def final_files(requests: Requests, trials: Iterable[Trial],
                joint: JointMeasurement) -> dict[str, int]:
    """The files of the front (bytes by sha256), by what was measured together if anything was."""
    rows = {t.id: with_joint_measurement(t, joint) for t in trials if not joint or t.id in joint}
    points = [p for p in map(trial_point, rows.values()) if p is not None]
    return {str(rows[p.trial].sha256): int(p.values["file_bytes"])
            for p in front_of(points, requests.campaign.objectives)}


def evaluate_on_test(flow: JobFlow, requests: Requests, baseline: BaselineState,
                     front: Mapping[str, int], on_device: OnDevice | None) -> None:
    """Test accuracy of the baseline and of each file of the front (bytes by sha256), where their
    validation accuracy comes from; returns when the last is there."""
    files = {baseline.sha256: baseline.file_bytes, **front}
    if on_device is not None and baseline.on_device is not None:
        answers(flow, requests, on_device, files, "test")
        return
    ended: list[EndedJob[EvaluationResult]] = []
    for sha256 in files:
        flow.submit(requests.evaluate(sha256, "test"), FINAL_EVALUATION, ended.append)
    while len(ended) < len(files):
        flow.listen(20.0)
