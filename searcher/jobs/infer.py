"""Job kind ``infer``: a device computes the outputs of a model for a data set.

The outputs are stored as a .npy file. A builder, which has the targets, computes the metric.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sqlite_utils import Database

from agents import protocol
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


@dataclass(frozen=True)
class InferResult:
    """``outputs`` is the .npy file, ``place`` the device and runtime that computed it."""

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
        return InferRequest(message)

    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        """Store the outputs as a .npy file."""
        found = protocol.decode(protocol.InferResult, dict(result))
        provider = fields.text_of(found.provider, "provider", 200)
        content = _npy(found)
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


def _npy(result: protocol.InferResult) -> bytes:
    import numpy as np

    shape = result.shape
    if not 2 <= len(shape) <= MOST_DIMENSIONS or min(shape) < 1:
        raise ProtocolError(f"shape = {shape[:MOST_DIMENSIONS]} must be (samples, ...).")
    content = protocol.unpack_bytes(result.outputs, protocol.INFERRED_BYTES)
    if len(content) != 4 * math.prod(shape):
        raise ProtocolError(f"The outputs have {len(content)} bytes, shape {shape} needs "
                            f"{4 * math.prod(shape)}.")
    outputs = np.frombuffer(content, "<f4").reshape(shape)
    if not np.isfinite(outputs).all():
        raise ProtocolError("The outputs are not finite.")
    file = io.BytesIO()
    np.save(file, outputs, allow_pickle=False)
    return file.getvalue()
