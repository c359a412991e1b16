"""Job kind ``measure``: candidates timed beside a reference, with the state of the device."""

from typing import List

from agents.jobs.base import JobContext, job_kind
from agents.measurement import verdict
from agents.measurement.runner import measure
from agents.measurement.watch import DeviceMonitor, cool_down, power_mode
from agents.platform.environment import (
    machine_identity,
    machine_state,
    measurement_environment,
    was_throttled,
)
from agents.protocol import UNKNOWN, JsonObject, Measured, MeasurePayload, as_json


def run_measure(payload: MeasurePayload, job: JobContext) -> JsonObject:
    """The measurement with the device's state before and after it, as JSON.

    It begins when the device is cool (``watch.cool_down``). Valid measurements become invalid with
    the reason ``throttled`` if a throttle counter rose during it; doubts: ``verdict.py``.
    Raises what ``runner.measure`` raises.
    """
    tree, profile = job.tree, payload.profile or UNKNOWN
    cooled = cool_down(tree, payload.plan, job.clock, job.wait, job.cancelled,
                       profile.ignored_zones)
    before, watch = machine_state(tree, profile.ignored_zones), DeviceMonitor(tree, job.clock,
                                                                             profile)
    mode = power_mode(tree, before, profile.power_modes)
    result = measure(payload, job.paths, job.start_child, job.clock, job.cancelled, job.progress,
                     watch)
    after = machine_state(tree, profile.ignored_zones)
    doubts = verdict.device_doubts(before, after, watch.observations(), cooled, mode,
                               [one.provider for one in result.measurements])
    environment = measurement_environment(machine_identity(tree), result.environment["runtime"],
                                          before, after)
    environment["options"] = payload.options
    measurements = [verdict.with_doubts(one, doubts, payload.plan) for one in result.measurements]
    if was_throttled(before, after):
        measurements = _invalid(measurements, "throttled")
    content: JsonObject = as_json(result._replace(
        environment=environment, measurements=measurements))
    return content


def _invalid(measurements: List[Measured], reason: str) -> List[Measured]:
    return [one if one.verdict == "failed" else
            one._replace(verdict="invalid", reasons=[*one.reasons, reason])
            for one in measurements]


KIND = job_kind(
    "measure", MeasurePayload, lambda payload: [payload.reference, *payload.candidates],
    run_measure)
