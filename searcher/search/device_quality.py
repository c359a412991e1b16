"""The metric on the device, for devices whose numerics differ from the host's. The device computes
the outputs for a data set, a builder compares them with the targets.

    front measured --> infer: validation inputs --> evaluate the outputs --> front of these figures
                       device                       builder, has the targets       |
                       infer: test inputs    <-------------------------------------+
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from searcher.client.jobs import EndedJob, JobFlow
from searcher.client.records import Trial
from searcher.errors import ProtocolError
from searcher.jobs.evaluate import DeviceOutputs, EvaluationResult
from searcher.jobs.infer import InferResult
from searcher.ledger.tables.search_state import (
    BaselineState,
    DeviceQuality,
    FileRef,
    JointEntry,
    JointMeasurement,
)
from searcher.pareto.joint import contenders, trial_point, with_joint_measurement
from searcher.search.baseline import Baseline, drop_figures, interval_of, scored_split
from searcher.search.payloads import DEVICE_QUALITY, Requests
from searcher.spec.objectives import Quality

ATTEMPTS = 2
NO_QUALITY = "quality_on_device"
"""Constraint violated by a file whose metric on the device is unknown."""


@dataclass(frozen=True)
class OnDevice:
    """How to obtain the metric on the device. ``why`` says why the host's figure differs from the
    device's; ``inputs(split)`` uploads the inputs of a split for devices. ``outputs`` are the
    outputs that are asked for by name; none: all."""

    why: str
    inputs: Callable[[str], FileRef]
    outputs: Sequence[str] = ()


@dataclass(frozen=True)
class DeviceEvaluation:
    """The evaluation of one file, or None and the reason."""

    evaluation: EvaluationResult | None
    reason: str = ""


def device_evaluations(
    flow: JobFlow, requests: Requests, on_device: OnDevice, files: Mapping[str, int], split: str,
) -> dict[str, DeviceEvaluation]:
    """Evaluate ``files`` (bytes by sha256) on ``split`` from the outputs that the device
    computes."""
    inputs = on_device.inputs(split)
    found: dict[str, DeviceEvaluation] = {}

    def submit(sha256: str, attempt: int) -> None:
        def failed(why: str) -> None:
            if attempt < ATTEMPTS:
                submit(sha256, attempt + 1)
            else:
                found[sha256] = DeviceEvaluation(None, why)

        def inferred(job: EndedJob[InferResult]) -> None:
            if job.result is None or job.job is None:
                failed(job.why)
                return
            outputs = DeviceOutputs(job.job, job.result.outputs.sha256)
            flow.submit(requests.evaluate(sha256, split, outputs), DEVICE_QUALITY, evaluated)

        def evaluated(job: EndedJob[EvaluationResult]) -> None:
            if job.result is not None:
                found[sha256] = DeviceEvaluation(job.result)
            else:
                failed(job.why)

        model = FileRef(sha256, files[sha256])
        try:
            flow.submit(requests.infer(model, inputs, attempt, on_device.outputs),
                        DEVICE_QUALITY, inferred)
        except ProtocolError as error:
            found[sha256] = DeviceEvaluation(None, str(error))

    for sha256 in files:
        submit(sha256, 1)
    while len(found) < len(files):
        flow.listen(20.0)
    return found


def with_device_quality(
    flow: JobFlow, requests: Requests, on_device: OnDevice | None, baseline: Baseline,
    trials: Sequence[Trial], joint: JointMeasurement,
) -> tuple[JointMeasurement, BaselineState, list[str]]:
    """The joint figures with the metric from the device, the baseline with its own in
    ``on_device``, and notes.

    The figures are unchanged when ``on_device`` is None. When the device cannot evaluate the
    baseline, the host's figures remain and a note says so.
    """
    state, quality = baseline.state, baseline.quality
    if on_device is None:
        return joint, state, []
    rows = _rows(requests, trials, joint)
    files = {str(row.sha256): int((row.values or {})["file_bytes"]) for row in rows}
    found = device_evaluations(flow, requests, on_device,
                               {state.sha256: state.file_bytes, **files}, "validation")
    own = found[state.sha256].evaluation
    if own is None:
        return joint, state, [
            f"figures of {quality.name} are the host's, although {on_device.why}: the device could "
            f"not answer for the baseline ({found[state.sha256].reason})"]
    entries = {row.id: _entry(row, joint, found[str(row.sha256)], own, requests, quality)
               for row in rows}
    inputs = {split: on_device.inputs(split) for split in ("validation", "test")}
    there = DeviceQuality(own.place, on_device.why, inputs, {quality.name: own.value},
                          interval_of(quality, scored_split(own)))
    return {**joint, **entries}, replace(state, on_device=there), []


def _rows(requests: Requests, trials: Iterable[Trial], joint: JointMeasurement) -> list[Trial]:
    """The front and its contenders: these may join the front when a member is worse on the
    device."""
    rows = [with_joint_measurement(t, joint) for t in trials if not joint or t.id in joint]
    points = [point for point in map(trial_point, rows) if point is not None and point.feasible]
    if not joint:
        points = contenders(points, requests.campaign.objectives)
    chosen = {point.trial for point in points}
    return [row for row in rows if row.id in chosen]


def _entry(row: Trial, joint: JointMeasurement, answer: DeviceEvaluation, own: EvaluationResult,
           requests: Requests, quality: Quality) -> JointEntry:
    """The entry of ``row`` with its metric on the device; the drop is against the baseline on the
    device."""
    entry = replace(joint.get(row.id, JointEntry("")), sha256=row.sha256 or "",
                    measurement=row.measurement)
    evaluation, reason = answer.evaluation, answer.reason
    if evaluation is not None and evaluation.place != own.place:
        reason = f"it ran at {evaluation.place}, the baseline at {own.place}"
        evaluation = None
    if evaluation is None:
        return replace(entry, reason=f"no {quality.name} on the device: {reason}",
                       constraints={**(row.constraints or {}), NO_QUALITY: 1.0})
    values, intervals = drop_figures(scored_split(evaluation), scored_split(own), quality)
    return replace(
        entry, values={**(entry.values or {}), **values},
        intervals={**(entry.intervals or {}), **intervals},
        constraints=requests.excess({**(row.values or {}), **values}))
