"""What devices do beside measuring: the result of ``infer`` becomes a file by digest, from which a
builder, who has the targets, computes the accuracy; that of ``prepare`` is what it took."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from agents import protocol
from searcher.artifacts.store import place_artifact
from searcher.errors import ProtocolError
from searcher.jobs import fields, requests
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import builds, jobs

MOST_DIMENSIONS = 8


def store(db: Database, job: JobRow, document: Mapping[str, Any], artifacts: Path,
          now_s: float) -> dict[str, Any]:
    """Place the outputs as a .npy file; what the search gets to know. Raises ProtocolError."""
    result = protocol.decode(protocol.InferResult, dict(document))
    provider = fields.text_of(result.provider, "provider", 200)
    content = _npy(result)
    path = place_artifact(artifacts, content)
    builds.see_artifact(db, path.name, len(content), now_s)
    return {
        "outputs": {"sha256": path.name, "size_bytes": len(content)}, "shape": result.shape,
        "file_bytes": len(content), "provider": provider, "device_s": result.device_s,
        "environment": {"key": result.environment.get("key")},
        "place": _place(job, provider),
    }


def prepared(job: JobRow, document: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a ``prepare`` job; what it made stays on the device. Raises ProtocolError."""
    result = protocol.decode(protocol.PrepareResult, dict(document))
    return {"prepare_s": fields.number_of(result.prepare_s, "prepare_s", 0.0),
            "reused": result.reused,
            "kept_bytes": fields.whole_of(result.kept_bytes, "kept_bytes"),
            "environment": {"key": result.environment.get("key"),
                            "runtime": result.environment.get("runtime")}}


def place_of(db: Database, sha256: str, job_id: int, outputs: str) -> str:
    """Where the outputs were computed. Raises ProtocolError unless that job gave them for this
    file: an accuracy is never entered for what did not run."""
    job = jobs.get(db, job_id)
    result = job.result if job is not None and job.kind == "infer" else None
    if (job is None or not isinstance(result, dict) or job.payload["model"]["sha256"] != sha256
            or result["outputs"]["sha256"] != outputs):
        raise ProtocolError(f"Job {job_id} did not compute {outputs} with the file {sha256}.")
    return str(result["place"])


def _place(job: JobRow, provider: str) -> str:
    """What decides the numerics; it stands in reports."""
    parts = [requests.device_of(job.pool), job.payload["runtime"], provider]
    options = job.payload["options"]
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
