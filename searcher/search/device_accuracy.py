"""Accuracy on the device, for devices whose numerics differ from the host's. The device computes
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
    DeviceAccuracy,
    FileRef,
    JointEntry,
    JointMeasurement,
)
from searcher.pareto.front import excess
from searcher.pareto.joint import contenders, trial_point, with_joint_measurement
from searcher.search.baseline import accuracy_of, correct_samples
from searcher.search.payloads import DEVICE_ACCURACY, Requests
from searcher.statistics.intervals import wilson

ATTEMPTS = 2
NO_ACCURACY = "accuracy_on_device"
"""Constraint violated by a file whose accuracy on the device is unknown."""


@dataclass(frozen=True)
class OnDevice:
    """How to obtain accuracies from the device. ``why`` says why the host's accuracy differs from
    the device's; ``inputs(split)`` uploads the inputs of a split for devices."""

    why: str
    inputs: Callable[[str], FileRef]


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
            flow.submit(requests.evaluate(sha256, split, outputs), DEVICE_ACCURACY, evaluated)

        def evaluated(job: EndedJob[EvaluationResult]) -> None:
            if job.result is not None:
                found[sha256] = DeviceEvaluation(job.result)
            else:
                failed(job.why)

        model = FileRef(sha256, files[sha256])
        try:
            flow.submit(requests.infer(model, inputs, attempt), DEVICE_ACCURACY, inferred)
        except ProtocolError as error:
            found[sha256] = DeviceEvaluation(None, str(error))

    for sha256 in files:
        submit(sha256, 1)
    while len(found) < len(files):
        flow.listen(20.0)
    return found


def with_device_accuracy(
    flow: JobFlow, requests: Requests, on_device: OnDevice | None, baseline: BaselineState,
    trials: Sequence[Trial], joint: JointMeasurement,
) -> tuple[JointMeasurement, BaselineState, list[str]]:
    """The joint figures with the accuracies from the device, the baseline with its own in
    ``on_device``, and notes.

    The figures are unchanged when ``on_device`` is None. When the device cannot evaluate the
    baseline, the host's accuracies remain and a note says so.
    """
    if on_device is None:
        return joint, baseline, []
    rows = _rows(requests, trials, joint)
    files = {str(row.sha256): int((row.values or {})["file_bytes"]) for row in rows}
    found = device_evaluations(flow, requests, on_device,
                               {baseline.sha256: baseline.file_bytes, **files}, "validation")
    own = found[baseline.sha256].evaluation
    if own is None:
        return joint, baseline, [
            f"accuracies are the host's, although {on_device.why}: the device could not answer "
            f"for the baseline ({found[baseline.sha256].reason})"]
    entries = {row.id: _entry(row, joint, found[str(row.sha256)], own,
                              requests.campaign.constraints) for row in rows}
    inputs = {split: on_device.inputs(split) for split in ("validation", "test")}
    accuracy = DeviceAccuracy(own.place, on_device.why, inputs, {"accuracy": own.value},
                              {"accuracy": _interval(own)})
    return {**joint, **entries}, replace(baseline, on_device=accuracy), []


def _rows(requests: Requests, trials: Iterable[Trial], joint: JointMeasurement) -> list[Trial]:
    """The front and its contenders: these may join the front when a member loses accuracy on the
    device."""
    rows = [with_joint_measurement(t, joint) for t in trials if not joint or t.id in joint]
    points = [point for point in map(trial_point, rows) if point is not None and point.feasible]
    if not joint:
        points = contenders(points, requests.campaign.objectives)
    chosen = {point.trial for point in points}
    return [row for row in rows if row.id in chosen]


def _entry(row: Trial, joint: JointMeasurement, answer: DeviceEvaluation, own: EvaluationResult,
           constraints: Mapping[str, float]) -> JointEntry:
    """The entry of ``row`` with its accuracy on the device; the drop is relative to the baseline's
    accuracy on the device."""
    entry = replace(joint.get(row.id, JointEntry("")), sha256=row.sha256 or "",
                    measurement=row.measurement)
    evaluation, reason = answer.evaluation, answer.reason
    if evaluation is not None and evaluation.place != own.place:
        reason = f"it ran at {evaluation.place}, the baseline at {own.place}"
        evaluation = None
    if evaluation is None:
        return replace(entry, reason=f"no accuracy on the device: {reason}",
                       constraints={**(row.constraints or {}), NO_ACCURACY: 1.0})
    values, intervals = accuracy_of(evaluation, correct_samples(own))
    return replace(
        entry, values={**(entry.values or {}), **values},
        intervals={**(entry.intervals or {}), **intervals},
        constraints=excess({**(row.values or {}), **values}, constraints))


def _interval(evaluation: EvaluationResult) -> list[float]:
    return list(wilson(int(correct_samples(evaluation).sum()), evaluation.n))
