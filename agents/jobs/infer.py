"""Job kind ``infer``: the outputs of one model for every sample of a data set."""

from typing import Callable, List, Mapping

from agents.child.events import Event, Inferred, Opened, Ready, Share, single
from agents.child.request import ChildRequest
from agents.jobs.base import JobContext, job_kind, with_environment
from agents.measurement import verdict
from agents.measurement.child_process import StartChild
from agents.measurement.supervision import LOAD_BYTES_PER_S, JobFailed, supervise
from agents.platform.environment import machine_state
from agents.protocol import InferPayload, InferResult, JsonObject

SILENCE_S = 300.0
"""Longest time of opening the model, or of one batch, on a slow device."""


def infer(
    payload: InferPayload,
    paths: Mapping[str, str],
    start_child: StartChild,
    clock: Callable[[], float],
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda fraction_done: None,
) -> InferResult:
    """Computes the outputs in a child process; ``paths`` maps sha256 to a local file.

    The result's environment is ``{"runtime": versions}``. Raises JobCancelled, and JobFailed, with
    the reason ``provider_fallback`` if another provider than the first requested one ran the
    model, because it would compute other numbers.
    """
    request = ChildRequest("infer", [0], [paths[payload.model.sha256]],
                           inputs=paths[payload.inputs.sha256], outputs=payload.outputs,
                           options=payload.options)
    events: List[Event] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Share):
            progress(event.done)
        else:
            events.append(event)

    began_s = clock()
    supervise(payload.runtime, request, start_child, clock, cancelled, on_event,
              SILENCE_S + payload.model.size_bytes / LOAD_BYTES_PER_S)
    ready, opened = single(events, Ready), single(events, Opened)
    inferred = single(events, Inferred)
    fallback = verdict.provider_fallback(payload.options, opened.provider)
    if fallback is not None:
        raise JobFailed("provider_fallback", fallback)
    first, others = inferred.outputs[0], inferred.outputs[1:]
    return InferResult(first.shape, first.outputs, opened.provider, {"runtime": ready.versions},
                       clock() - began_s, first.name, first.kind, others)


def run_infer(payload: InferPayload, job: JobContext) -> JsonObject:
    """The outputs with the device's state before and after, as JSON. The job does not wait for a
    cool device, because temperature does not change outputs. Raises what ``infer`` raises."""
    before = machine_state(job.tree)
    result = infer(payload, job.paths, job.start_child, job.clock, job.cancelled, job.progress)
    return with_environment(result, payload.options, job.tree, before)


KIND = job_kind("infer", InferPayload, lambda payload: [payload.model, payload.inputs], run_infer)
