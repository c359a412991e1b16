"""The baseline of a campaign: trained, evaluated and measured before the search starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from searcher.client.jobs import JobFlow
from searcher.errors import BuildError
from searcher.jobs.build import BuildResult
from searcher.jobs.evaluate import EvaluationResult
from searcher.jobs.measure import file_of
from searcher.ledger.tables.search_state import BaselineState, FileRef
from searcher.search.payloads import BASELINE, Requests
from searcher.spec.recipe import Recipe
from searcher.statistics.energy import figures, missing_energy
from searcher.statistics.intervals import paired_difference, unpack_bits, wilson
from searcher.statistics.measured import FileMeasurement

ATTEMPTS = 20
MIN_BLOCKS = 40
"""Minimum number of quiet blocks for the baseline. It is higher than for candidates because this
measurement determines the device's quiet level."""


@dataclass(frozen=True)
class Baseline:
    """The reference of every comparison. ``correct`` has one boolean per validation sample:
    whether the baseline classifies it correctly."""

    state: BaselineState
    correct: np.ndarray


def establish(flow: JobFlow, requests: Requests, known: BaselineState | None,
              threads: int) -> Baseline:
    """Train the baseline, or reuse its build, and measure it unless ``known`` is given. Training
    uses ``threads`` threads, because no other job of the campaign can run before it ends.

    Raises BuildError when the baseline cannot be built or measured; the campaign then fails.
    """
    built = flow.wait_for(requests.train(Recipe(), "full", threads), BASELINE)
    if built.result is None or built.result.evaluation is None:
        raise BuildError(f"The baseline could not be built: {built.why}", built.reason or "build")
    build, evaluation = built.result, built.result.evaluation
    if known is None:
        known = _state(build, evaluation, _measure(flow, requests, build))
    return Baseline(replace(known, sha256=build.sha256, file_bytes=build.file_bytes),
                    correct_samples(evaluation))


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


def _state(build: BuildResult, evaluation: EvaluationResult,
           entry: FileMeasurement) -> BaselineState:
    level_s, ratio = entry.quiet_level_s, entry.latency_ratio
    if level_s is None or ratio is None:
        raise BuildError("The baseline was measured without a quiet level.",
                         "baseline_not_measured")
    hits = round(evaluation.value * evaluation.n)
    energy, energy_intervals = figures(entry.summary)
    return BaselineState(
        build.sha256, build.file_bytes, level_s,
        {"accuracy": evaluation.value, "accuracy_drop": 0.0, "latency_ratio": 1.0,
         "latency_s": level_s, "file_bytes": build.file_bytes, "macs": build.report.macs,
         **energy},
        {"accuracy": list(wilson(hits, evaluation.n)),
         "latency_s": [level_s * ratio.low, level_s * ratio.high], **energy_intervals},
        entry.measurement)


def accuracy_of(evaluation: EvaluationResult, baseline: np.ndarray
                ) -> tuple[dict[str, float], dict[str, Sequence[float]]]:
    """Accuracy, paired accuracy drop against the ``baseline``'s correct samples, and the intervals
    of both."""
    correct = correct_samples(evaluation)
    drop, low, high = paired_difference(baseline, correct)
    return {"accuracy": evaluation.value, "accuracy_drop": drop}, {
        "accuracy": list(wilson(int(correct.sum()), evaluation.n)),
        "accuracy_drop": [low, high]}


def correct_samples(evaluation: EvaluationResult) -> np.ndarray:
    """One boolean per sample of the split: whether it is classified correctly."""
    return unpack_bits(evaluation.bits, evaluation.n)
