"""The baseline of a campaign: trained, evaluated and measured before the search starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from searcher.client.jobs import JobFlow
from searcher.errors import BuildError, UserError
from searcher.jobs.build import BuildResult
from searcher.jobs.evaluate import EvaluationResult
from searcher.jobs.measure import file_of
from searcher.ledger.tables.search_state import BaselineState, FileRef, SearchState
from searcher.search.payloads import BASELINE, Requests
from searcher.spec.objectives import DROP, Quality
from searcher.spec.recipe import Recipe
from searcher.statistics.energy import figures, missing_energy
from searcher.statistics.measured import FileMeasurement
from searcher.tasks.scored_split import ScoredSplit, quality_of_metric

ATTEMPTS = 20
MIN_BLOCKS = 40
"""Minimum number of quiet blocks for the baseline. It is higher than for candidates because this
measurement determines the device's quiet level."""


@dataclass(frozen=True)
class Baseline:
    """The reference of every comparison, with the metric that judges candidates; ``scored`` is the
    baseline on the validation split."""

    state: BaselineState
    quality: Quality
    scored: ScoredSplit


def establish(flow: JobFlow, requests: Requests, known: SearchState | None,
              threads: int) -> Baseline:
    """Train the baseline, or reuse its build, and measure it unless ``known`` is given. Training
    uses ``threads`` threads, because no other job of the campaign can run before it ends.

    Raises BuildError when the baseline cannot be built or measured, and UserError when the task
    has another metric than when the search began; the campaign then fails.
    """
    built = flow.wait_for(requests.train(Recipe(), "full", threads), BASELINE)
    if built.result is None or built.result.evaluation is None:
        raise BuildError(f"The baseline could not be built: {built.why}", built.reason or "build")
    build, evaluation = built.result, built.result.evaluation
    scored = scored_split(evaluation)
    if known is None:
        quality = quality_of_metric(evaluation.metric, evaluation.value)
        state = _state(build, quality, scored, _measure(flow, requests, build))
    elif known.quality.metric != evaluation.metric:
        raise UserError(
            f"The task {requests.campaign.task} now has the metric {evaluation.metric!r}; this "
            f"campaign was begun with {known.quality.metric!r}. Give the task that metric again, "
            "or give the campaign another name.")
    else:
        quality, state = known.quality, known.baseline
    return Baseline(replace(state, sha256=build.sha256, file_bytes=build.file_bytes), quality,
                    scored)


def _measure(flow: JobFlow, requests: Requests, build: BuildResult) -> FileMeasurement:
    plan = requests.campaign.plan
    longer = plan._replace(min_blocks=max(plan.min_blocks, MIN_BLOCKS), max_s=2 * plan.max_s)
    file = FileRef(build.sha256, build.file_bytes)
    for attempt in range(1, ATTEMPTS + 1):
        request = requests.measure(file, [file], longer, attempt)
        entry = file_of(flow.wait_for(request, BASELINE), build.sha256)
        without = missing_energy(entry.summary, (o.name for o in requests.campaign.objectives))
        if entry.verdict == "valid" and without is None:
            return entry
    reasons = [*entry.reasons, *([without] if without else [])]
    raise BuildError(f"The baseline could not be measured: {', '.join(reasons)}.",
                     "baseline_not_measured")


def _state(build: BuildResult, quality: Quality, scored: ScoredSplit,
           entry: FileMeasurement) -> BaselineState:
    level_s, ratio = entry.quiet_level_s, entry.latency_ratio
    if level_s is None or ratio is None:
        raise BuildError("The baseline was measured without a quiet level.",
                         "baseline_not_measured")
    energy, energy_intervals = figures(entry.summary)
    return BaselineState(
        build.sha256, build.file_bytes, level_s,
        {quality.name: scored.value, DROP: 0.0, "latency_ratio": 1.0, "latency_s": level_s,
         "file_bytes": build.file_bytes, "macs": build.report.macs, **energy},
        {**interval_of(quality, scored), "latency_s": [level_s * ratio.low, level_s * ratio.high],
         **energy_intervals},
        entry.measurement)


def quality_figures(evaluation: EvaluationResult, baseline: Baseline
                    ) -> tuple[dict[str, float], dict[str, Sequence[float]]]:
    """The metric of a candidate, what it loses against the ``baseline`` over the same samples, and
    the intervals of both where there are any."""
    return drop_figures(scored_split(evaluation), baseline.scored, baseline.quality)


def drop_figures(scored: ScoredSplit, reference: ScoredSplit, quality: Quality
                 ) -> tuple[dict[str, float], dict[str, Sequence[float]]]:
    """As ``quality_figures``, against any other file."""
    lost, interval = reference.drop(scored)
    return {quality.name: scored.value, DROP: lost}, {
        **interval_of(quality, scored), **({} if interval is None else {DROP: list(interval)})}


def interval_of(quality: Quality, scored: ScoredSplit) -> dict[str, Sequence[float]]:
    """The interval of the metric by its name, if it has one."""
    return {} if scored.interval is None else {quality.name: list(scored.interval)}


def scored_split(evaluation: EvaluationResult) -> ScoredSplit:
    return ScoredSplit.of(evaluation.metric, evaluation.value, evaluation.n, evaluation.content,
                          evaluation.encoding, evaluation.interval)
