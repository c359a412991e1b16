"""Job kind ``infer``: the outputs of one model for every sample of a data set."""

from typing import Any, Callable, Dict, List, Mapping

from agents.jobs.base import JobContext, JobKind, with_environment
from agents.measurement import verdict
from agents.measurement.child_process import StartChild
from agents.measurement.runner import LOAD_BYTES_PER_S, MeasurementFailed
from agents.measurement.supervision import attend
from agents.platform.environment import state
from agents.protocol import InferPayload, InferResult

SILENCE_S = 300.0
"""Longest time that opening the model, or one batch, may take on a slow device."""


def infer(
    payload: InferPayload,
    paths: Mapping[str, str],
    start_child: StartChild,
    clock: Callable[[], float],
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda share_done: None,
) -> InferResult:
    """Runs one job of kind ``infer``; ``paths`` maps sha256 to a local file.

    The result's environment holds ``{"runtime": versions}``. Another provider than the one asked
    for first would compute something else, therefore it fails (``provider_fallback``). Raises
    MeasurementFailed and Cancelled.
    """
    request = {
        "mode": "infer", "indexes": [0], "paths": [paths[payload.model.sha256]],
        "inputs": paths[payload.inputs.sha256], "options": payload.options, "input_seed": 0,
    }
    heard: List[Dict[str, Any]] = []

    def hear(event: Dict[str, Any]) -> None:
        if event["event"] == "share":
            progress(float(event["done"]))
        else:
            heard.append(event)

    began_s = clock()
    attend(payload.runtime, request, start_child, clock, cancelled, hear,
           SILENCE_S + payload.model.size_bytes / LOAD_BYTES_PER_S)
    told = {event["event"]: event for event in heard}
    provider = str(told["opened"]["provider"])
    fallback = verdict.provider_fallback(payload.options, provider)
    if fallback is not None:
        raise MeasurementFailed("provider_fallback", fallback)
    return InferResult(
        [int(size) for size in told["inferred"]["shape"]], str(told["inferred"]["outputs"]),
        provider, {"runtime": dict(told["ready"]["versions"])}, clock() - began_s)


def run_infer(payload: InferPayload, job: JobContext) -> Dict[str, Any]:
    """The outputs with the device's state before and after, as JSON. The job does not wait for a
    cool device, because temperature does not change outputs. Raises what ``infer`` raises."""
    before = state(job.tree)
    result = infer(payload, job.paths, job.start_child, job.clock, job.cancelled, job.progress)
    return with_environment(result, payload.options, job.tree, before)


KIND = JobKind("infer", InferPayload, lambda payload: [payload.model, payload.inputs], run_infer)
