"""Job kind ``infer``: a device computes the outputs of a model for a data set.

The outputs are stored as a file of arrays. A builder, which has the targets, computes the metric.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sqlite_utils import Database

from agents import protocol
from searcher.artifacts import arrays
from searcher.artifacts.store import place_artifact
from searcher.documents import parse
from searcher.errors import ProtocolError
from searcher.jobs import fields
from searcher.jobs.base import JobKind, JobRequest, Ledger, PoolKind, device_of
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import builds, jobs
from searcher.ledger.tables.search_state import FileRef

DEADLINE_S = 3600.0
MOST_DIMENSIONS = 8
MOST_OUTPUTS = 64
LONGEST_NAME = 200
KINDS = ("<f4", "|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8")
"""numpy's names of the types that outputs may have."""


@dataclass(frozen=True)
class InferResult:
    """``outputs`` is the file of all outputs by name, without names where there is one
    (``artifacts.arrays``), ``place`` the device and runtime that computed it."""

    outputs: FileRef
    place: str


@dataclass(frozen=True)
class InferRequest(JobRequest[InferResult]):
    """A model and its inputs. The message has the ``options`` of ``spec.runtime_options``."""

    message: protocol.InferPayload

    @property
    def kind(self) -> str:
        return Infer.name

    @property
    def runs_on(self) -> PoolKind:
        return "device"

    def payload(self) -> dict[str, object]:
        return dict(protocol.as_json(self.message))

    def result(self, document: Mapping[str, object]) -> InferResult:
        return parse(InferResult, document)

    def files(self) -> tuple[str, str]:
        return self.message.model.sha256, self.message.inputs.sha256

    def models(self) -> tuple[str]:
        return (self.message.model.sha256,)

    def deadline_s(self) -> float:
        return DEADLINE_S


class Infer(JobKind):
    """See ``InferRequest``."""

    name: ClassVar[str] = "infer"
    runs_on: ClassVar[PoolKind] = "device"
    span: ClassVar[str] = "infer"

    def parse(self, payload: Mapping[str, object]) -> InferRequest:
        message = fields.message_of(protocol.InferPayload, payload)
        fields.check_run(message.runtime, message.attempt, message.model, message.inputs)
        for name in fields.list_of(message.outputs, "outputs", MOST_OUTPUTS):
            fields.text_of(name, "outputs", LONGEST_NAME)
        return InferRequest(message)

    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        """Store the outputs as a file of arrays."""
        found = protocol.decode(protocol.InferResult, dict(result))
        if not found.name and self.parse(job.payload).message.outputs:
            raise ProtocolError("An agent of an older version answered the first output, others "
                                "were asked for. It updates itself; submit the job again.")
        provider = fields.text_of(found.provider, "provider", 200)
        content = arrays.packed(_outputs(found))
        path = place_artifact(ledger.artifacts, content)
        builds.see_artifact(ledger.db, path.name, len(content), ledger.now_s)
        return {
            "outputs": {"sha256": path.name, "size_bytes": len(content)}, "shape": found.shape,
            "file_bytes": len(content), "provider": provider, "device_s": found.device_s,
            "environment": {"key": found.environment.get("key")},
            "place": _place(self.parse(job.payload), job.pool, provider)}


def place_of(db: Database, sha256: str, job_id: int, outputs: str) -> str:
    """The place where job ``job_id`` computed ``outputs``. Raises ProtocolError unless that job
    computed them with the file ``sha256``, so that no file gets the accuracy of another."""
    job = jobs.get(db, job_id)
    if job is not None and job.kind == Infer.name and job.result is not None:
        request = Infer().parse(job.payload)
        result = request.result(job.result)
        if request.message.model.sha256 == sha256 and result.outputs.sha256 == outputs:
            return result.place
    raise ProtocolError(f"Job {job_id} did not compute {outputs} with the file {sha256}.")


def _place(request: InferRequest, pool: str, provider: str) -> str:
    """The name of everything that determines numerics. Reports show it."""
    options = request.message.options
    parts = [device_of(pool), request.message.runtime, provider]
    if options.get("precision") is not None:
        parts.append(str(options["precision"])[:40])
    if options.get("graph_level", protocol.GRAPH_LEVELS[0]) != protocol.GRAPH_LEVELS[0]:
        parts.append(f"level {str(options['graph_level'])[:40]}")
    return "/".join(parts)


def _outputs(result: protocol.InferResult) -> dict[str, "arrays.Array"]:
    """The outputs by name. Raises ProtocolError."""
    import numpy as np

    first = protocol.InferredOutput(result.name, result.kind, result.shape, result.outputs)
    outputs = [first, *result.others]
    names = [one.name for one in outputs]
    if len(outputs) > MOST_OUTPUTS or len(set(names)) < len(names):
        raise ProtocolError(f"{len(outputs)} outputs must be at most {MOST_OUTPUTS}, each with "
                            "another name.")
    if max(map(len, names)) > LONGEST_NAME:
        raise ProtocolError(f"The names of outputs must have at most {LONGEST_NAME} characters.")
    left = protocol.INFERRED_BYTES
    found = {}
    for one in outputs:
        if one.kind not in KINDS:
            raise ProtocolError(f"kind = {one.kind[:20]!r} must be one of {', '.join(KINDS)}.")
        if not 1 <= len(one.shape) <= MOST_DIMENSIONS or min(one.shape) < 1 or (
                one.shape[0] != first.shape[0]):
            raise ProtocolError(f"shape = {one.shape[:MOST_DIMENSIONS]} must be (samples, ...), "
                                "with as many samples as the first output.")
        content = protocol.unpack_bytes(one.outputs, max(left, 1))  # zlib: 0 is no limit
        left -= len(content)
        expected = np.dtype(one.kind).itemsize * math.prod(one.shape)
        if len(content) != expected:
            raise ProtocolError(f"The output {one.name!r} has {len(content)} bytes, shape "
                                f"{one.shape} needs {expected}.")
        found[one.name] = np.frombuffer(content, one.kind).reshape(one.shape)
        if one.kind == KINDS[0] and not np.isfinite(found[one.name]).all():
            raise ProtocolError(f"The output {one.name!r} is not finite.")
    return found
