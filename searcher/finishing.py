"""The end of a campaign: its front measured together, then the test split, once.

    search is over --> measure the front's members and what is close to them, in one job
                       |  busy: those again, while there is patience
                       v
                       front of these figures --> test accuracy of the baseline and of each member
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from searcher.deciding import front_of
from searcher.job_flow import Job, JobFlow, entry_of
from searcher.requests import Requests
from searcher.together import (
    Together,
    contenders,
    entry_together,
    plan_together,
    revised,
    told_point,
)
from searcher.windows import PASSING, WIDEST, WINDOW, relative_width

PRIORITY = {"measure": 45, "evaluate": 40}
MOST = 64
"""Files of one job: what the wire allows."""
MOST_BYTES = 256 * 2**20
"""Decoded, each file is as large as the baseline, and all are open at once."""

Trial = Mapping[str, Any]


def measure_together(flow: JobFlow, requests: Requests, baseline: Mapping[str, Any],
                     trials: Sequence[Trial], patient: Callable[[], bool]) -> dict[str, Any]:
    """The figures of the front and of what is close to it; see ``searcher.together.Together``.

    What stays busy until ``patient()`` ends is named without figures, and keeps its own.
    """
    by_id = {t["id"]: t for t in trials}
    objectives, bounds = requests.campaign.objectives, requests.campaign.constraints
    points = [p for p in map(told_point, trials) if p is not None]
    waiting = [by_id[p.trial] for p in contenders(points, objectives)]
    found = {str(t["id"]): {"sha256": t["sha256"]} for t in waiting}
    attempt = 1
    while waiting:
        busy: list[Trial] = []
        for group in _groups(waiting, baseline["file_bytes"]):
            payload = requests.measure(baseline, [_file(t) for t in group],
                                       plan_together(requests.campaign.plan), attempt)
            job = flow.wait_for("measure", payload, PRIORITY["measure"])
            for trial in group:
                entry = entry_of(job, trial["sha256"])
                if entry["verdict"] == "valid" and relative_width(entry) <= WIDEST:
                    found[str(trial["id"])] = entry_together(
                        trial["sha256"], trial["values"], entry, baseline["quiet_level_s"], bounds)
                elif entry["verdict"] == "valid" or PASSING.intersection(entry["reasons"]):
                    busy.append(trial)
        waiting = busy if patient() else []
        attempt += 1
    return found


def _groups(trials: Sequence[Trial], baseline_bytes: int) -> list[Sequence[Trial]]:
    """In order of speed, so that neighbours share a group but where one ends."""
    most = max(WINDOW, min(MOST, MOST_BYTES // max(int(baseline_bytes), 1)))
    return [trials[start:start + most] for start in range(0, len(trials), most)]


def _file(trial: Trial) -> dict[str, Any]:
    return {"sha256": trial["sha256"], "file_bytes": trial["values"]["file_bytes"]}


def final_files(requests: Requests, trials: Iterable[Trial], together: Together) -> list[str]:
    """The files of the front, by what was measured together if anything was."""
    rows = [{**t, **revised(t, together)} for t in trials
            if not together or str(t["id"]) in together]
    files = {t["id"]: str(t["sha256"]) for t in rows}
    points = [p for p in map(told_point, rows) if p is not None]
    return [files[p.trial] for p in front_of(points, requests.campaign.objectives)]


def judge_on_test(flow: JobFlow, requests: Requests, files: Sequence[str]) -> None:
    """Test accuracy of each file; returns when the last is there."""
    waiting: list[Job] = []
    for sha256 in files:
        flow.submit("evaluate", requests.evaluate(sha256, "test"), PRIORITY["evaluate"],
                    waiting.append)
    while len(waiting) < len(files):
        flow.listen(20.0)
