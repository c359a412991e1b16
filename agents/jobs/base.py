"""The interface of a job kind, and the context of a job. Jobs are data, never shell commands."""

import time
from typing import Callable, List, Mapping, NamedTuple, Type, TypeVar, Union

from agents.measurement.child_process import StartChild
from agents.platform.environment import (
    MachineState,
    machine_identity,
    machine_state,
    measurement_environment,
)
from agents.platform.sysfs import SystemTree
from agents.protocol import (
    ArtifactRef,
    InferPayload,
    InferResult,
    JsonObject,
    MeasurePayload,
    PreparePayload,
    PrepareResult,
    as_json,
    decode,
)

P = TypeVar("P", InferPayload, MeasurePayload, PreparePayload)


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


class Job(NamedTuple):
    """One job whose payload has been parsed. ``files`` are those that it needs; ``run`` returns
    the result as JSON, and raises JobFailed and JobCancelled."""

    runtime: str
    files: List[ArtifactRef]
    run: Callable[[JobContext], JsonObject]


class JobKind(NamedTuple):
    """One kind of job; ``parse`` turns a payload into a job and raises ProtocolError."""

    name: str
    parse: Callable[[Mapping[str, object]], Job]


def job_kind(name: str, payload: Type[P], files: Callable[[P], List[ArtifactRef]],
             run: Callable[[P, JobContext], JsonObject]) -> JobKind:
    """A kind of job. ``payload`` is the message type of its payload, ``files`` lists the files
    that a payload needs, and ``run(payload, context)`` does the job as ``Job.run``."""
    def parse(content: Mapping[str, object]) -> Job:
        message = decode(payload, content)
        return Job(message.runtime, files(message), lambda context: run(message, context))

    return JobKind(name, parse)


def with_environment(result: Union[InferResult, PrepareResult], options: Mapping[str, object],
                     tree: SystemTree, before: MachineState) -> JsonObject:
    """``result`` as JSON, its environment completed by the device's state ``before`` and now."""
    environment = measurement_environment(
        machine_identity(tree), result.environment["runtime"], before, machine_state(tree))
    environment["options"] = options
    content: JsonObject = as_json(result._replace(environment=environment))
    return content
