"""Job kind ``prepare``: what a runtime needs of a model before it can run it, such as an engine."""

from typing import Callable, List, Mapping

from agents.child.events import Event, PreparedFile, Ready, single
from agents.child.request import ChildRequest
from agents.jobs.base import JobContext, job_kind, with_environment
from agents.measurement.child_process import StartChild
from agents.measurement.supervision import supervise
from agents.platform.environment import machine_state
from agents.protocol import JsonObject, PreparePayload, PrepareResult

SILENCE_S = 3600.0
"""Longest time of a build; a large engine takes most of an hour on a small board."""


def prepare(
    payload: PreparePayload,
    paths: Mapping[str, str],
    start_child: StartChild,
    clock: Callable[[], float],
    cancelled: Callable[[], bool] = lambda: False,
) -> PrepareResult:
    """Prepares a model in a child process; ``paths`` maps sha256 to a local file. The result's
    environment is ``{"runtime": versions}``. Raises JobFailed and JobCancelled."""
    request = ChildRequest("prepare", [0], [paths[payload.model.sha256]], options=payload.options)
    events: List[Event] = []
    supervise(payload.runtime, request, start_child, clock, cancelled, events.append, SILENCE_S)
    done = single(events, PreparedFile)
    return PrepareResult(done.prepare_s, done.reused, done.kept_bytes,
                         {"runtime": single(events, Ready).versions})


def run_prepare(payload: PreparePayload, job: JobContext) -> JsonObject:
    """What was prepared, with the device's state before and after, as JSON. Raises what
    ``prepare`` raises."""
    before = machine_state(job.tree)
    result = prepare(payload, job.paths, job.start_child, job.clock, job.cancelled)
    return with_environment(result, payload.options, job.tree, before)


KIND = job_kind("prepare", PreparePayload, lambda payload: [payload.model], run_prepare)
