"""Extended training of the expected front at the end of a campaign.

    search ends --> the front, and candidates that a little more quality would bring onto it
                    |  extended training, by decreasing hypervolume contribution
                    v
                    joint measurement of the trained files (``searcher.search.final_measurement``)

During the search extended training would be wasteful: later candidates dominate most trained ones.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from searcher.client.jobs import EndedJob, JobFlow
from searcher.client.records import Trial
from searcher.jobs.build import BuildResult
from searcher.jobs.evaluate import EvaluationResult
from searcher.pareto.front import Point
from searcher.pareto.hypervolume import hypervolume_gain
from searcher.pareto.joint import contenders
from searcher.search.baseline import Baseline, quality_figures
from searcher.search.payloads import TRAIN, Requests
from searcher.spec.objectives import DROP, Objective, quality_of, scale_of

TIME_FRACTION = 0.18
"""Fraction of the search time that is reserved for extended training."""
FIDELITY = "extended"
LISTEN_S = 5.0


def extend(flow: JobFlow, requests: Requests, baseline: Baseline, trials: Sequence[Trial],
           builders: int, may_begin: Callable[[int], bool],
           wins_back: float) -> list[Trial]:
    """``trials`` with the files and figures after extended training; their latency is still that
    of the previous file. ``may_begin(id)`` is called before each training and may refuse it.
    ``wins_back`` is the quality that training may win back, relative to the quality's scale."""
    chosen = worth_extending(requests, baseline, trials, wins_back)
    waiting, running = deque(chosen), set[int]()
    found: dict[int, Trial] = {}

    def ended(trial: Trial, job: EndedJob[BuildResult]) -> None:
        running.remove(trial.id)
        if job.result is not None and job.result.evaluation is not None:
            found[trial.id] = with_extended_training(
                trial, job.result, job.result.evaluation, baseline, requests)

    def begin(trial: Trial) -> None:
        running.add(trial.id)
        flow.submit(requests.train(trial.built_from, FIDELITY), TRAIN[FIDELITY],
                    lambda job: ended(trial, job))

    while waiting or running:
        while waiting and len(running) < builders:
            trial = waiting.popleft()
            if may_begin(trial.id):
                begin(trial)
        if running:
            flow.listen(LISTEN_S)
    return [found.get(trial.id, trial) for trial in trials]


def worth_extending(requests: Requests, baseline: Baseline,
                    trials: Sequence[Trial], wins_back: float) -> list[Trial]:
    """Candidates worth extended training, by decreasing hypervolume contribution."""
    objectives = requests.campaign.objectives
    quality = quality_of(objectives)
    points = [point for trial in trials
              if (point := _optimistic_point(trial, quality, wins_back)) is not None]
    chosen = contenders(points, objectives)
    added = {p.trial: hypervolume_gain(p.values, [q for q in chosen if q is not p],
                                       baseline.state.values, objectives) for p in chosen}
    by_id = {trial.id: trial for trial in trials}
    return [by_id[i] for i in sorted(added, key=lambda i: (-added[i], i))]


def _optimistic_point(trial: Trial, quality: Objective, wins_back: float) -> Point | None:
    """The best point that extended training may reach. A candidate that violates only the
    constraint of the quality drop, by at most ``wins_back``, counts as feasible; None for all other
    infeasible candidates."""
    broken = {k: v for k, v in (trial.constraints or {}).items() if v > 0}
    if trial.state != "complete" or (trial.reason is not None and not broken):
        return None
    values = trial.values or {}
    if not broken:
        return Point(trial.id, values, True)
    deficit = broken.pop(DROP, 0.0)
    if broken or deficit > wins_back:
        return None
    reached = quality.worsened(values[quality.name], -deficit * scale_of([quality]))
    return Point(trial.id, {**values, quality.name: reached}, True)


def with_extended_training(trial: Trial, build: BuildResult, evaluation: EvaluationResult,
                           baseline: Baseline, requests: Requests) -> Trial:
    """``trial`` with the file and figures of extended training, or unchanged if those violate a
    constraint.

    The new file is used even if it is slightly worse on the validation split: the longer
    training usually has the smaller drop on the test split, and choosing the higher of two
    validation figures would be biased.
    """
    found, intervals = quality_figures(evaluation, baseline)
    values = {**(trial.values or {}), **found, "file_bytes": float(build.file_bytes)}
    broken = requests.excess(values)
    if any(v > 0 for v in broken.values()):
        return trial
    return replace(trial, sha256=build.sha256, values=values, constraints=broken,
                   intervals={**(trial.intervals or {}), **intervals}, reason=None)
