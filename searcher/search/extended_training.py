"""The last share of a campaign's time: what is about to be its front is trained on.

    search ends --> the front, and what would be on it were it a little more accurate
                    |  extended training, first of what the front would lose most without
                    v
                    what that gave is measured together (``searcher.search.final_measurement``)

The search itself trains nothing for so long: most of what it trains is beaten later.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from searcher.client.jobs import Job, JobFlow
from searcher.pareto.front import Point, excess
from searcher.pareto.hypervolume import hypervolume_gain
from searcher.pareto.joint import contenders
from searcher.search.baseline import Baseline, accuracy_of
from searcher.search.payloads import Requests
from searcher.spec.recipe import Recipe

SHARE = 0.18
"""Of the time of the search."""
GAIN = 0.005
"""Accuracy (absolute) that extended training may win back: .2 points on average on digits, and
more of what lost more."""
PRIORITY = 20
LISTEN_S = 5.0

Trial = Mapping[str, Any]


def extend(flow: JobFlow, requests: Requests, baseline: Baseline, trials: Sequence[Trial],
           at_once: int, may_begin: Callable[[int], bool]) -> list[Trial]:
    """``trials`` with the files and figures of those that were trained on; their latency is still
    that of the file before. ``may_begin(id)`` is asked before each begins."""
    waiting, running = deque(worth_it(requests, baseline, trials)), set[int]()
    found: dict[int, Trial] = {}

    def ended(trial: Trial, job: Job) -> None:
        running.remove(trial["id"])
        if job["state"] == "done":
            found[trial["id"]] = trained_on(trial, job["result"], baseline,
                                            requests.campaign.constraints)

    def begin(trial: Trial) -> None:
        running.add(trial["id"])
        flow.submit("train", requests.train(Recipe.from_list(trial["steps"]), "extended"),
                    PRIORITY, lambda job: ended(trial, job))

    while waiting or running:
        while waiting and len(running) < at_once:
            trial = waiting.popleft()
            if may_begin(trial["id"]):
                begin(trial)
        if running:
            flow.listen(LISTEN_S)
    return [found.get(trial["id"], trial) for trial in trials]


def worth_it(requests: Requests, baseline: Baseline, trials: Sequence[Trial]) -> list[Trial]:
    """Those that may be on the front once trained on; what it would lose most without is first."""
    objectives = requests.campaign.objectives
    points = [point for point in map(_hopeful, trials) if point is not None]
    chosen = contenders(points, objectives)
    added = {p.trial: hypervolume_gain(p.values, [q for q in chosen if q is not p], baseline.values,
                              objectives) for p in chosen}
    by_id = {trial["id"]: trial for trial in trials}
    return [by_id[i] for i in sorted(added, key=lambda i: (-added[i], i))]


def _hopeful(trial: Trial) -> Point | None:
    """As good as it may become: within the constraints, where accuracy alone is lacking, by no
    more than ``GAIN``. What another beat on every objective stays beaten."""
    broken = {k: v for k, v in (trial["constraints"] or {}).items() if v > 0}
    if trial["state"] != "complete" or (trial["reason"] is not None and not broken):
        return None
    if not broken:
        return Point(trial["id"], trial["values"], True)
    lacking = broken.pop("accuracy_drop", 0.0)
    if broken or lacking > GAIN:
        return None
    values = {**trial["values"], "accuracy": trial["values"]["accuracy"] + lacking}
    return Point(trial["id"], values, True)


def trained_on(trial: Trial, build: Mapping[str, Any], baseline: Baseline,
               constraints: Mapping[str, float]) -> Trial:
    """``trial`` with what extended training gave; as it was where that breaks a constraint.

    What it gave counts although its validation accuracy may be a little lower: the longer trained
    of two loses less on test, and the higher of two figures is the luckier one.
    """
    found, intervals = accuracy_of(build["evaluation"], baseline.correct)
    values = {**trial["values"], **found, "file_bytes": build["file_bytes"]}
    broken = excess(values, constraints)
    if any(v > 0 for v in broken.values()):
        return trial
    return {**trial, "sha256": build["sha256"], "values": values, "constraints": broken,
            "intervals": {**(trial["intervals"] or {}), **intervals}, "reason": None}
