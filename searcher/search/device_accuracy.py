"""Accuracy where the file runs: a device whose numerics differ from the host's answers the data
sets itself, and what it answered is compared with the targets here.

    front measured --> infer: validation inputs --> evaluate its outputs --> front by these figures
                       device                       builder, has the targets       |
                       infer: test inputs    <-------------------------------------+
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from searcher.client.jobs import Job, JobFlow
from searcher.errors import ProtocolError
from searcher.pareto.front import excess
from searcher.pareto.joint import JointFigures, contenders, trial_point, with_joint_measurement
from searcher.search.baseline import Baseline, accuracy_of, unpack_bits
from searcher.search.payloads import Requests
from searcher.statistics.intervals import wilson

PRIORITY = 42
ATTEMPTS = 2
NO_ACCURACY = "accuracy_on_device"
"""The constraint that a file breaks whose accuracy there is not known."""

Trial = Mapping[str, Any]


@dataclass(frozen=True)
class OnDevice:
    """``why`` the host's accuracy is not the device's; ``inputs(split)`` has the inputs of a split
    put where devices fetch them, and gives their sha256 and size_bytes."""

    why: str
    inputs: Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Answer:
    """The evaluation of one file as it travels; None with the reason why there is none."""

    evaluation: Mapping[str, Any] | None
    reason: str = ""


def answers(flow: JobFlow, requests: Requests, on_device: OnDevice, files: Mapping[str, int],
            split: str) -> dict[str, Answer]:
    """What the device makes of ``split`` with each of ``files`` (bytes by sha256)."""
    inputs = dict(on_device.inputs(split))
    found: dict[str, Answer] = {}

    def ask(sha256: str, attempt: int) -> None:
        def failed(job: Job) -> None:
            if attempt < ATTEMPTS:
                ask(sha256, attempt + 1)
            else:
                reason = job.get("message") or job.get("reason") or job["state"]
                found[sha256] = Answer(None, str(reason))

        def inferred(job: Job) -> None:
            if job["state"] != "done":
                failed(job)
                return
            outputs = {"job": job["job"], "sha256": job["result"]["outputs"]["sha256"]}
            flow.submit("evaluate", {**requests.evaluate(sha256, split), "outputs": outputs},
                        PRIORITY, evaluated)

        def evaluated(job: Job) -> None:
            if job["state"] == "done":
                found[sha256] = Answer(job["result"]["evaluation"])
            else:
                failed(job)

        model = {"sha256": sha256, "size_bytes": files[sha256]}
        try:
            flow.submit("infer", requests.infer(model, inputs, attempt), PRIORITY, inferred)
        except ProtocolError as error:
            found[sha256] = Answer(None, str(error))

    for sha256 in files:
        ask(sha256, 1)
    while len(found) < len(files):
        flow.listen(20.0)
    return found


def validated(
    flow: JobFlow, requests: Requests, on_device: OnDevice | None, baseline: Baseline,
    trials: Sequence[Trial], together: JointFigures,
) -> tuple[JointFigures, Baseline, list[str]]:
    """The figures of the front, and of what may be on it, with the accuracies of the device; the
    baseline with its own in ``document["on_device"]``.

    Both as they were where the host's accuracies are the device's, and, with a note, where the
    device cannot say: those of the host stay, and are called so.
    """
    if on_device is None:
        return together, baseline, []
    rows = _rows(requests, trials, together)
    files = {str(row["sha256"]): int(row["values"]["file_bytes"]) for row in rows}
    found = answers(flow, requests, on_device,
                    {baseline.sha256: int(baseline.document["file_bytes"]), **files}, "validation")
    own = found[baseline.sha256].evaluation
    if own is None:
        return together, baseline, [
            f"accuracies are the host's, although {on_device.why}: the device could not answer "
            f"for the baseline ({found[baseline.sha256].reason})"]
    entries = {str(row["id"]): _entry(row, together, found[str(row["sha256"])], own,
                                      requests.campaign.constraints) for row in rows}
    document = {**baseline.document, "on_device": {
        "place": own["place"], "why": on_device.why,
        "inputs": {split: dict(on_device.inputs(split)) for split in ("validation", "test")},
        "values": {"accuracy": own["value"]}, "intervals": {"accuracy": _interval(own)}}}
    return {**together, **entries}, replace(baseline, document=document), []


def _rows(requests: Requests, trials: Iterable[Trial], together: JointFigures) -> list[Trial]:
    """The front and what is close to it: a loss of accuracy there makes room for others."""
    rows = [{**t, **with_joint_measurement(t, together)} for t in trials
            if not together or str(t["id"]) in together]
    points = [point for point in map(trial_point, rows) if point is not None and point.feasible]
    if not together:
        points = contenders(points, requests.campaign.objectives)
    chosen = {point.trial for point in points}
    return [row for row in rows if row["id"] in chosen]


def _entry(row: Trial, together: JointFigures, answer: Answer, own: Mapping[str, Any],
           constraints: Mapping[str, float]) -> dict[str, Any]:
    """``row`` with its accuracy on the device; the loss is against the baseline's there."""
    entry = {**together.get(str(row["id"]), {}), "sha256": row["sha256"],
             "measurement": row["measurement"]}
    evaluation, reason = answer.evaluation, answer.reason
    if evaluation is not None and evaluation["place"] != own["place"]:
        reason = f"it ran at {evaluation['place']}, the baseline at {own['place']}"
        evaluation = None
    if evaluation is None:
        return {**entry, "reason": f"no accuracy on the device: {reason}",
                "constraints": {**(row["constraints"] or {}), NO_ACCURACY: 1.0}}
    values, intervals = accuracy_of(evaluation, _correct(own))
    return {
        **entry, "values": {**entry.get("values", {}), **values},
        "intervals": {**entry.get("intervals", {}), **intervals},
        "constraints": excess({**row["values"], **values}, constraints)}


def _correct(evaluation: Mapping[str, Any]) -> Any:
    return unpack_bits(evaluation["correct"], evaluation["n"])


def _interval(evaluation: Mapping[str, Any]) -> list[float]:
    return list(wilson(int(_correct(evaluation).sum()), evaluation["n"]))
