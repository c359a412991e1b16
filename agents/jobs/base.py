"""The interface of a job kind, and the context of a job. Jobs are data, never shell commands."""

import time
from typing import Callable, Generic, List, Mapping, NamedTuple, Type, TypeVar, Union

from agents.measurement.child_process import StartChild
from agents.platform.environment import (
    MachineState,
    machine_identity,
    machine_state,
    measurement_environment,
)
from agents.platform.sysfs import SystemTree
from agents.protocol import ArtifactRef, InferResult, JsonObject, PrepareResult, as_json

P = TypeVar("P")


class JobContext(NamedTuple):
    """The context of one job.

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


class JobKind(Generic[P]):
    """One kind of job.

    ``payload`` is the message type of its payload, ``files`` lists the files that a payload needs,
    and ``run(payload, context)`` returns the result as JSON. ``run`` raises JobFailed and
    JobCancelled.
    """

    def __init__(self, name: str, payload: Type[P], files: Callable[[P], List[ArtifactRef]],
                 run: Callable[[P, JobContext], JsonObject]) -> None:
        self.name = name
        self.payload = payload
        self.files = files
        self.run = run


def with_environment(result: Union[InferResult, PrepareResult], options: JsonObject,
                     tree: SystemTree, before: MachineState) -> JsonObject:
    """``result`` as JSON, its environment completed by the device's state ``before`` and now."""
    environment = measurement_environment(
        machine_identity(tree), result.environment["runtime"], before, machine_state(tree))
    environment["options"] = options
    content: JsonObject = as_json(result._replace(environment=environment))
    return content
