"""Loose result JSON from the wire -> strict rows of the ledger.

Whatever a builder or device sends is checked here before anything is stored; what cannot be
accepted raises ``MalformedResult`` and its job fails for that reason.
"""

import base64
import binascii
import math
import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from agents import protocol
from searcher.artifacts.formats import number_formats
from searcher.errors import ProtocolError
from searcher.jobs import fields, infer, measure, requests
from searcher.jobs.inspect import store_inspection
from searcher.jobs.measure import Draft
from searcher.ledger.rows import JobRow
from searcher.ledger.store import savepoint
from searcher.ledger.tables import builds

MOST_PROBE_OUTPUTS = 65_536


class MalformedResult(ProtocolError):
    """A result that does not say what its kind of job must say."""


@dataclass(frozen=True)
class Outcome:
    """What becomes of a job: its state, and its result or why there is none. A result that is a
    text is JSON already."""

    state: str
    result: dict[str, Any] | str | None = None
    reason: str | None = None
    message: str | None = None


def drafted(db: Database, job: JobRow, content: bytes, now_s: float) -> Draft | None:
    """What ``outcome_of`` would store, judged beforehand and perhaps elsewhere. None for all but
    the sound result of a measurement."""
    if job.kind != "measure":
        return None
    try:
        envelope = protocol.decode(protocol.ResultEnvelope, content)
        if envelope.state != "done":
            return None
        return measure.draft(db, job, envelope.result, now_s)
    except (ProtocolError, protocol.ProtocolError, ValueError, OverflowError):
        return None


def outcome_of_draft(db: Database, draft: Draft) -> Outcome | None:
    """None, and nothing stored, if it does not hold (any more)."""
    if not measure.still_holds(db, draft):
        return None
    try:
        with savepoint(db, "outcome"):
            return Outcome("done", measure.store(db, draft))
    except sqlite3.IntegrityError:
        return None


def outcome_of(
    db: Database, job: JobRow, content: bytes, artifacts: Path, now_s: float
) -> Outcome:
    """Store what ``content`` reports about ``job``; nothing of it is stored if it is malformed."""
    try:
        with savepoint(db, "outcome"):
            return _stored(db, job, content, artifacts, now_s)
    except (ProtocolError, protocol.ProtocolError, OverflowError, UnicodeEncodeError) as error:
        return Outcome("failed", None, "malformed_result", clipped(str(error)))
    except sqlite3.IntegrityError as error:
        return Outcome("failed", None, "malformed_result", f"It contradicts the ledger: {error}.")


def _stored(db: Database, job: JobRow, content: bytes, artifacts: Path, now_s: float) -> Outcome:
    envelope = protocol.decode(protocol.ResultEnvelope, content)
    if envelope.state == "failed":
        failure = protocol.decode(protocol.Failure, envelope.result)
        reason = clipped(failure.reason, 60) or "failed"
        state = "cancelled" if job.cancel_requested and reason == "cancelled" else "failed"
        return Outcome(state, None, reason, clipped(failure.message))
    if job.kind == "measure":
        return Outcome("done", measure.store(
            db, measure.draft(db, job, envelope.result, now_s)))
    if job.kind == "infer":
        return Outcome("done", infer.store(db, job, envelope.result, artifacts, now_s))
    if job.kind == "prepare":
        return Outcome("done", infer.prepared(job, envelope.result))
    if job.kind == "evaluate":
        return Outcome("done", _store_evaluation_job(db, job, envelope.result, artifacts, now_s))
    if job.kind == "inspect":
        return Outcome("done", store_inspection(db, job, envelope.result))
    return Outcome("done", _store_build(db, job, envelope.result, artifacts, now_s))


def clipped(message: str, most: int = 4000) -> str:
    """At most ``most`` letters that SQLite can store."""
    return message.encode("utf-8", "replace").decode()[:most]


def _store_build(
    db: Database, job: JobRow, result: Mapping[str, Any], artifacts: Path, now_s: float
) -> dict[str, Any]:
    request = requests.BuildRequest.of(job.kind, job.payload)
    key = fields.text_of(result.get("build_key"), "build_key", 200)
    sha256 = fields.sha256_of(result.get("sha256"), "sha256")
    file_bytes = fields.whole_of(result.get("file_bytes"), "file_bytes", 1)
    graph_key = fields.text_of(result.get("graph_key"), "graph_key", 200)
    report = fields.table_of(result.get("report"), "report")
    _check_file(artifacts, sha256, file_bytes)
    number_format = fields.text_of(
        result.get("number_format", number_formats.DEFAULT), "number_format", 40)
    outputs = result.get("probe_outputs")
    probe_outputs = None if outputs is None else [
        fields.number_of(value, "probe_outputs")
        for value in fields.list_of(outputs, "probe_outputs", MOST_PROBE_OUTPUTS)
    ]
    builds.put_recipe(db, request.recipe.hash, request.recipe.as_list())
    builds.put(
        db, key, request.task, request.recipe.hash, request.seed, request.fidelity, sha256,
        file_bytes, graph_key, report, job.id, now_s,
    )
    builds.put_artifact(
        db, sha256, file_bytes, now_s, key, request.target, number_format, probe_outputs
    )
    evaluation = result.get("evaluation")
    return {
        "build_key": key, "sha256": sha256, "file_bytes": file_bytes, "graph_key": graph_key,
        "report": report,
        "evaluation": None if evaluation is None else _store_evaluation(
            db, job, fields.table_of(evaluation, "evaluation"), sha256, None, builds.HOST, now_s),
        "built_steps": fields.whole_of(result.get("built_steps", 0), "built_steps"),
        "reused_steps": fields.whole_of(result.get("reused_steps", 0), "reused_steps"),
        "cached_bytes": fields.whole_of(result.get("cached_bytes", 0), "cached_bytes"),
    }


def _check_file(artifacts: Path, sha256: str, file_bytes: int) -> None:
    try:
        found = (artifacts / sha256).stat().st_size
    except OSError as error:
        raise MalformedResult(f"The artifact {sha256} is not in the folder of artifacts.") \
            from error
    if found != file_bytes:
        raise MalformedResult(f"The artifact {sha256} has {found} bytes, not {file_bytes}.")


def _store_evaluation_job(
    db: Database, job: JobRow, result: Mapping[str, Any], artifacts: Path, now_s: float
) -> dict[str, Any]:
    request = requests.EvaluateRequest.of(job.payload)
    place = builds.HOST if request.outputs is None else infer.place_of(
        db, request.sha256, *request.outputs)
    if builds.artifact(db, request.sha256) is None:
        try:
            file_bytes = (artifacts / request.sha256).stat().st_size
        except OSError as error:
            raise MalformedResult(f"The artifact {request.sha256} is gone.") from error
        builds.put_artifact(db, request.sha256, file_bytes, now_s)
    evaluation = fields.table_of(result.get("evaluation"), "evaluation")
    return {"evaluation": _store_evaluation(
        db, job, evaluation, request.sha256, request.split, place, now_s)}


def _store_evaluation(
    db: Database, job: JobRow, result: Mapping[str, Any], sha256: str, split: str | None,
    place: str, now_s: float,
) -> dict[str, Any]:
    """The evaluation that counts: an earlier one of the same artifact, split and place stays."""
    split = split or fields.text_of(result.get("split", "validation"), "split", 20)
    metric = fields.text_of(result.get("metric"), "metric", 40)
    value = fields.number_of(result.get("value"), "value")
    n = fields.whole_of(result.get("n"), "n", 1, 2**31)
    try:
        correct = base64.b64decode(result.get("correct") or "", validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise MalformedResult(f"correct is no base64: {error}.") from error
    if len(correct) != math.ceil(n / 8):
        raise MalformedResult(f"correct has {len(correct)} bytes for n = {n} samples.")
    evaluation_id = builds.put_evaluation(
        db, sha256, split, place, metric, value, n, correct, job.id, now_s
    )
    row = builds.evaluation_by_id(db, evaluation_id)
    if row is None:
        raise MalformedResult(f"evaluation {evaluation_id} was not stored.")
    return {
        "id": row.id, "sha256": sha256, "split": split, "place": row.place, "metric": row.metric,
        "value": row.value, "n": row.n, "correct": base64.b64encode(row.correct).decode(),
    }


def content_of(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """The JSON text in a request body, unpacked to at most ``most_bytes``.

    Raises ProtocolError (400, 413, 415).
    """
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise ProtocolError(f"Content-Encoding {encoding[:40]!r} is not understood: use gzip.", 415)
    unpacker = zlib.decompressobj(wbits=31)
    try:
        content = unpacker.decompress(body, most_bytes)
    except zlib.error as error:
        raise ProtocolError(f"The body is not gzip: {error}.") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        status = 413 if unpacker.unconsumed_tail else 400
        raise ProtocolError(
            f"The body unpacks to more than {most_bytes} bytes, or ends early.", status
        )
    return content


def document_of(content: bytes) -> Any:
    """Strict JSON (no NaN). Raises ProtocolError (400)."""
    try:
        return protocol.parse_json(content)
    except protocol.ProtocolError as error:
        raise ProtocolError(str(error)) from error
