"""What an agent does with a lease, by kind. Jobs are data, never shell."""

import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple

from agents.infer import infer
from agents.measurement import verdict
from agents.measurement.child_process import StartChild
from agents.measurement.runner import measure
from agents.measurement.watch import Watch, cool_down, power_mode
from agents.platform.environment import environment_of, identity, state, throttled
from agents.platform.sysfs import Tree
from agents.prepare import prepare
from agents.protocol import (
    UNKNOWN,
    ArtifactRef,
    InferPayload,
    Measured,
    MeasurePayload,
    MeasureResult,
    PreparePayload,
    as_json,
)


def measure_in_environment(
    payload: MeasurePayload,
    paths: Mapping[str, str],
    start_child: StartChild,
    cancelled: Callable[[], bool],
    progress: Callable[[float], None],
    tree: Tree,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> Dict[str, Any]:
    """The result of one measurement with the device's state before and after it, as JSON.

    It begins when the device is cool (``watch.cool_down``). Valid measurements become invalid for
    ``throttled`` when a throttle counter rose meanwhile; see ``verdict.py`` for doubts.
    Raises what ``runner.measure`` raises.
    """
    profile = payload.profile or UNKNOWN
    cooled = cool_down(tree, payload.plan, clock, wait, cancelled, profile.ignored_zones)
    before, watch = state(tree, profile.ignored_zones), Watch(tree, clock, profile)
    mode = power_mode(tree, before, profile.power_modes)
    result = measure(payload, paths, start_child, clock, cancelled, progress, watch)
    after = state(tree, profile.ignored_zones)
    doubts = verdict.of_device(before, after, watch.seen(), cooled, mode,
                               [one.provider for one in result.measurements])
    environment = environment_of(identity(tree), result.environment["runtime"], before, after)
    environment["options"] = payload.options
    measurements = [verdict.with_doubts(one, doubts, payload.plan) for one in result.measurements]
    if throttled(before, after):
        measurements = _invalid(measurements, "throttled")
    content: Dict[str, Any] = as_json(MeasureResult(
        result.quiet_level_s, result.reference_blocks, result.quiet_share, environment,
        measurements, result.device_s, result.reference_nodes))
    return content


def _invalid(measurements: List[Measured], reason: str) -> List[Measured]:
    return [one if one.verdict == "failed" else
            one._replace(verdict="invalid", reasons=[*one.reasons, reason])
            for one in measurements]


def infer_in_environment(
    payload: InferPayload,
    paths: Mapping[str, str],
    start_child: StartChild,
    cancelled: Callable[[], bool],
    progress: Callable[[float], None],
    tree: Tree,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> Dict[str, Any]:
    """The outputs for a data set with the device's state before and after, as JSON. Heat changes
    no output, so nothing is waited for. Raises what ``infer.infer`` raises."""
    before = state(tree)
    result = infer(payload, paths, start_child, clock, cancelled, progress)
    return _in_environment(result, payload.options, tree, before)


def prepare_in_environment(
    payload: PreparePayload,
    paths: Mapping[str, str],
    start_child: StartChild,
    cancelled: Callable[[], bool],
    progress: Callable[[float], None],
    tree: Tree,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> Dict[str, Any]:
    """What was prepared, with the device's state before and after, as JSON. Raises what
    ``prepare.prepare`` raises."""
    before = state(tree)
    result = prepare(payload, paths, start_child, clock, cancelled)
    return _in_environment(result, payload.options, tree, before)


def _in_environment(result: Any, options: Dict[str, Any], tree: Tree,
                    before: Dict[str, Any]) -> Dict[str, Any]:
    """``result`` as JSON, its environment completed by the device's state ``before`` and now."""
    environment = environment_of(
        identity(tree), result.environment["runtime"], before, state(tree))
    environment["options"] = options
    content: Dict[str, Any] = as_json(result._replace(environment=environment))
    return content


class Kind(NamedTuple):
    """A job kind: the message that its payload is, the files that it needs, and what does it."""

    payload: type
    files: Callable[[Any], List[ArtifactRef]]
    run: Callable[..., Dict[str, Any]]


KINDS: Dict[str, Kind] = {
    "measure": Kind(MeasurePayload, lambda asked: [asked.reference, *asked.candidates],
                    measure_in_environment),
    "infer": Kind(InferPayload, lambda asked: [asked.model, asked.inputs], infer_in_environment),
    "prepare": Kind(PreparePayload, lambda asked: [asked.model], prepare_in_environment),
}
"""As ``protocol.DEVICE_KINDS`` names them."""
