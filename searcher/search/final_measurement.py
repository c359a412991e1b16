"""The end of a campaign: its front measured together, then the test split, once.

    search is over --> train on what is about to be the front
    (``searcher.search.extended_training``)
                   --> measure the front's members, what is close to them, and what was trained
                       and not measured yet, in one job
                       |  busy: those again, while there is patience; the last time by the
                       v        machine's own level of that moment
                       front of these figures --> test accuracy of the baseline and of each member
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from searcher.client.jobs import Job, JobFlow, entry_of
from searcher.pareto.front import excess, front_of
from searcher.pareto.joint import (
    JointFigures,
    contenders,
    joint_entry,
    trial_point,
    with_joint_measurement,
)
from searcher.search.baseline import Baseline
from searcher.search.device_accuracy import OnDevice, answers
from searcher.search.measurement_batches import PASSING, WIDEST, WINDOW, Candidate, relative_width
from searcher.search.payloads import Requests
from searcher.spec.measurement_plan import Plan

MOST_BLOCKS, FEWEST_BLOCKS = 60, 8
"""Enough blocks to tell members apart; and those that still bound a median, on a machine that is
quiet in one block of twenty."""


PRIORITY = {"measure": 45, "evaluate": 40}
MOST = 64
"""Files of one job: what the wire allows."""
MOST_BYTES = 256 * 2**20
"""Decoded, each file is as large as the baseline, and all are open at once."""

Trial = Mapping[str, Any]


def measure_together(flow: JobFlow, requests: Requests, baseline: Mapping[str, Any],
                     trials: Sequence[Trial], unmeasured: Collection[int],
                     patient: Callable[[], bool]) -> dict[str, Any]:
    """The figures of the front and of what is close to it; see ``pareto.joint.JointFigures``.

    ``unmeasured`` are trials whose latency is that of another file of their structure. What cannot
    be measured is named with the ``reason`` instead of figures, and keeps its own.
    """
    waiting = _chosen(requests, trials, unmeasured)
    found: dict[str, Any] = {str(t["id"]): {"sha256": t["sha256"]} for t in waiting}
    attempt, last = 1, False
    while waiting:
        busy: list[Trial] = []
        for group in _groups(waiting, baseline["file_bytes"]):
            payload = requests.measure(
                baseline, [_file(t) for t in group],
                plan_together(requests.campaign.plan, 3 if last else attempt), attempt,
                own_level=last)
            job = flow.wait_for("measure", payload, PRIORITY["measure"])
            for trial in group:
                entry = entry_of(job, trial["sha256"])
                if entry["verdict"] == "valid" and (last or relative_width(entry) <= WIDEST):
                    found[str(trial["id"])] = joint_entry(
                        trial, entry, baseline["quiet_level_s"], requests.campaign.constraints)
                    continue
                found[str(trial["id"])]["reason"] = ", ".join(entry["reasons"]) or "vague"
                if entry["verdict"] == "valid" or PASSING.intersection(entry["reasons"]):
                    busy.append(trial)
        if patient():
            waiting = busy
        else:
            # Those with a figure of a quiet machine keep it rather than take one of a busy one.
            waiting = [] if last else [t for t in busy if t["id"] in unmeasured]
            last = True
        attempt += 1
    return found


def as_told(candidate: Candidate, constraints: Mapping[str, float]) -> dict[str, Any]:
    """The row of a trained candidate as it will be once it is measured."""
    return {"id": candidate.trial, "state": "complete", "reason": None,
            "values": candidate.values, "sha256": candidate.build["sha256"],
            "intervals": candidate.intervals, "steps": candidate.recipe.as_list(),
            "constraints": excess(candidate.values, constraints)}


def _chosen(requests: Requests, trials: Sequence[Trial],
            unmeasured: Collection[int]) -> list[Trial]:
    """Nothing, where there is nothing to compare and nothing to be measured."""
    objectives = requests.campaign.objectives
    points = [p for p in map(trial_point, trials) if p is not None]
    close = [p.trial for p in contenders(points, objectives)]
    comparable = len(close) > 1 and any(o.name == "latency_s" for o in objectives)
    by_id = {t["id"]: t for t in trials}
    return [by_id[i] for i in close] if comparable or set(close) & set(unmeasured) else []


def _groups(trials: Sequence[Trial], baseline_bytes: int) -> list[Sequence[Trial]]:
    """In order of speed, so that neighbours share a group but where one ends."""
    most = max(WINDOW, min(MOST, MOST_BYTES // max(int(baseline_bytes), 1)))
    return [trials[start:start + most] for start in range(0, len(trials), most)]


def _file(trial: Trial) -> dict[str, Any]:
    return {"sha256": trial["sha256"], "file_bytes": int(trial["values"]["file_bytes"])}


def final_files(requests: Requests, trials: Iterable[Trial],
                together: JointFigures) -> dict[str, int]:
    """The files of the front (bytes by sha256), by what was measured together if anything was."""
    rows = [{**t, **with_joint_measurement(t, together)} for t in trials
            if not together or str(t["id"]) in together]
    files = {t["id"]: str(t["sha256"]) for t in rows}
    points = [p for p in map(trial_point, rows) if p is not None]
    return {files[p.trial]: int(p.values["file_bytes"])
            for p in front_of(points, requests.campaign.objectives)}


def judge_on_test(flow: JobFlow, requests: Requests, baseline: Baseline,
                  front: Mapping[str, int], on_device: OnDevice | None) -> None:
    """Test accuracy of the baseline and of each file of the front (bytes by sha256), where their
    validation accuracy comes from; returns when the last is there."""
    files = {baseline.sha256: int(baseline.document["file_bytes"]), **front}
    if on_device is not None and "on_device" in baseline.document:
        answers(flow, requests, on_device, files, "test")
        return
    waiting: list[Job] = []
    for sha256 in files:
        flow.submit("evaluate", requests.evaluate(sha256, "test"), PRIORITY["evaluate"],
                    waiting.append)
    while len(waiting) < len(files):
        flow.listen(20.0)


def plan_together(plan: Plan, attempt: int) -> Plan:
    """At first with many blocks, then as many as the plan itself asks for, then few: their
    interval says what they are worth. Memory has been measured."""
    blocks = {1: max(plan.min_blocks, MOST_BLOCKS), 2: plan.min_blocks}
    return replace(plan, name=f"{plan.name}-together", energy_s=0.0, idle_s=0.0,
                   min_blocks=blocks.get(attempt, min(plan.min_blocks, FEWEST_BLOCKS)),
                   memory=False)
