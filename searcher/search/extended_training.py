"""The last share of a campaign's time: what is about to be its front is trained on.

    search ends --> the front, and what would be on it were it a little more accurate
                    |  extended training, first of what the front would lose most without
                    v
                    the trained files are measured together (``search.final_measurement``)

The search itself trains nothing for so long: most of what it trains is beaten later.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from searcher.client.jobs import EndedJob, JobFlow
from searcher.client.records import Trial
from searcher.jobs.build import BuildResult
from searcher.jobs.evaluate import EvaluationResult
from searcher.pareto.front import Point, excess
from searcher.pareto.hypervolume import hypervolume_gain
from searcher.pareto.joint import contenders
from searcher.search.baseline import Baseline, accuracy_of
from searcher.search.payloads import TRAIN, Requests

SHARE = 0.18
"""Of the time of the search."""
GAIN = 0.005
"""Accuracy (absolute) that extended training may win back: .2 points on average on digits, and
more of what lost more."""
FIDELITY = "extended"
LISTEN_S = 5.0


def extend(flow: JobFlow, requests: Requests, baseline: Baseline, trials: Sequence[Trial],
           at_once: int, may_begin: Callable[[int], bool]) -> list[Trial]:
    """``trials`` with the files and figures of those that were trained on; their latency is still
    that of the file before. ``may_begin(id)`` is asked before each begins."""
    waiting, running = deque(worth_extending(requests, baseline, trials)), set[int]()
    found: dict[int, Trial] = {}

    def ended(trial: Trial, job: EndedJob[BuildResult]) -> None:
        running.remove(trial.id)
        if job.result is not None and job.result.evaluation is not None:
            found[trial.id] = with_extended_training(
                trial, job.result, job.result.evaluation, baseline, requests.campaign.constraints)

    def begin(trial: Trial) -> None:
        running.add(trial.id)
        flow.submit(requests.train(trial.built_from, FIDELITY), TRAIN[FIDELITY],
                    lambda job: ended(trial, job))

    while waiting or running:
        while waiting and len(running) < at_once:
            trial = waiting.popleft()
            if may_begin(trial.id):
                begin(trial)
        if running:
            flow.listen(LISTEN_S)
    return [found.get(trial.id, trial) for trial in trials]


def worth_extending(requests: Requests, baseline: Baseline,
                    trials: Sequence[Trial]) -> list[Trial]:
    """Candidates worth extended training, by decreasing hypervolume contribution."""
    objectives = requests.campaign.objectives
    points = [point for point in map(_optimistic_point, trials) if point is not None]
    chosen = contenders(points, objectives)
    added = {p.trial: hypervolume_gain(p.values, [q for q in chosen if q is not p],
                                       baseline.state.values, objectives) for p in chosen}
    by_id = {trial.id: trial for trial in trials}
    return [by_id[i] for i in sorted(added, key=lambda i: (-added[i], i))]


def _optimistic_point(trial: Trial) -> Point | None:
    """As good as it may become: within the constraints, where accuracy alone is lacking, by no
    more than ``GAIN``. What another beat on every objective stays beaten."""
    broken = {k: v for k, v in (trial.constraints or {}).items() if v > 0}
    if trial.state != "complete" or (trial.reason is not None and not broken):
        return None
    values = trial.values or {}
    if not broken:
        return Point(trial.id, values, True)
    lacking = broken.pop("accuracy_drop", 0.0)
    if broken or lacking > GAIN:
        return None
    return Point(trial.id, {**values, "accuracy": values["accuracy"] + lacking}, True)


def with_extended_training(trial: Trial, build: BuildResult, evaluation: EvaluationResult,
                           baseline: Baseline, constraints: Mapping[str, float]) -> Trial:
    """``trial`` with what extended training gave; as it was where that breaks a constraint.

    The new file counts although its validation accuracy may be a little lower: the longer trained
    of two loses less on test, and the higher of two figures is the luckier one.
    """
    found, intervals = accuracy_of(evaluation, baseline.correct)
    values = {**(trial.values or {}), **found, "file_bytes": float(build.file_bytes)}
    broken = excess(values, constraints)
    if any(v > 0 for v in broken.values()):
        return trial
    return replace(trial, sha256=build.sha256, values=values, constraints=broken,
                   intervals={**(trial.intervals or {}), **intervals}, reason=None)
