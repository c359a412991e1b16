"""Job kind ``prepare``: what a runtime needs of a model before it can run it, such as an engine."""

from typing import Any, Callable, Dict, Mapping

from agents.jobs.base import JobContext, JobKind, with_environment
from agents.measurement.child_process import StartChild
from agents.measurement.supervision import attend
from agents.platform.environment import state
from agents.protocol import PreparePayload, PrepareResult

SILENCE_S = 3600.0
"""A large engine takes the better part of an hour on a small board."""


def prepare(
    payload: PreparePayload,
    paths: Mapping[str, str],
    start_child: StartChild,
    clock: Callable[[], float],
    cancelled: Callable[[], bool] = lambda: False,
) -> PrepareResult:
    """Runs one job of kind ``prepare``; ``paths`` maps sha256 to a local file. The result's
    environment holds ``{"runtime": versions}``. Raises MeasurementFailed and Cancelled."""
    request = {"mode": "prepare", "indexes": [0], "paths": [paths[payload.model.sha256]],
               "options": payload.options}
    told: Dict[str, Dict[str, Any]] = {}
    attend(payload.runtime, request, start_child, clock, cancelled,
           lambda event: told.update({event["event"]: event}), SILENCE_S)
    done = told["prepared"]
    return PrepareResult(float(done["prepare_s"]), bool(done["reused"]), int(done["kept_bytes"]),
                         {"runtime": dict(told["ready"]["versions"])})


def run_prepare(payload: PreparePayload, job: JobContext) -> Dict[str, Any]:
    """What was prepared, with the device's state before and after, as JSON. Raises what
    ``prepare`` raises."""
    before = state(job.tree)
    result = prepare(payload, job.paths, job.start_child, job.clock, job.cancelled)
    return with_environment(result, payload.options, job.tree, before)


KIND = JobKind("prepare", PreparePayload, lambda payload: [payload.model], run_prepare)
