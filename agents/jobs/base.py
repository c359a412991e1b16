"""What a job kind is, and what an agent gives to each of its jobs. Jobs are data, never shell."""

import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple

from agents.measurement.child_process import StartChild
from agents.platform.environment import device_identity, device_state, measurement_environment
from agents.platform.sysfs import SystemTree
from agents.protocol import ArtifactRef, as_json


class JobContext(NamedTuple):
    """What one job works with.

    ``paths`` maps sha256 to a local file. ``cancelled`` says whether to stop, ``progress`` takes
    the fraction done, 0 to 1. ``clock`` is monotonic seconds, ``wait`` sleeps for some seconds.
    """

    paths: Mapping[str, str]
    start_child: StartChild
    tree: SystemTree
    cancelled: Callable[[], bool] = lambda: False
    progress: Callable[[float], None] = lambda fraction_done: None
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], object] = time.sleep


class JobKind(NamedTuple):
    """One kind of job.

    ``payload`` is the message that its payload must be, ``files`` lists the files that a payload
    needs, and ``run(payload, context)`` returns the result as JSON. ``run`` raises
    MeasurementFailed and Cancelled.
    """

    name: str
    payload: type
    files: Callable[[Any], List[ArtifactRef]]
    run: Callable[[Any, JobContext], Dict[str, Any]]


def with_environment(result: Any, options: Dict[str, Any], tree: SystemTree,
                     before: Dict[str, Any]) -> Dict[str, Any]:
    """``result`` as JSON, its environment completed by the device's state ``before`` and now."""
    environment = measurement_environment(
        device_identity(tree), result.environment["runtime"], before, device_state(tree))
    environment["options"] = options
    content: Dict[str, Any] = as_json(result._replace(environment=environment))
    return content
