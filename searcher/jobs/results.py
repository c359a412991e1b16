"""Checks results of builders and devices, and stores them as rows of the ledger.

A result that cannot be accepted is not stored, and its job fails with the reason
``malformed_result``.
"""

import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from agents import protocol
from searcher.errors import ProtocolError
from searcher.jobs import registry
from searcher.jobs.base import Ledger
from searcher.ledger.rows import JobRow
from searcher.ledger.store import savepoint


@dataclass(frozen=True)
class Outcome:
    """The end of a job: its state, and its result or the reason for its failure."""

    state: str
    result: Mapping[str, object] | None = None
    reason: str | None = None
    message: str | None = None


def outcome_of(
    db: Database, job: JobRow, content: bytes, artifacts: Path, now_s: float
) -> Outcome:
    """Store the result ``content`` of ``job``. Nothing of a malformed result is stored."""
    try:
        with savepoint(db, "outcome"):
            return _stored(db, job, content, artifacts, now_s)
    except (ProtocolError, protocol.ProtocolError, OverflowError, UnicodeEncodeError) as error:
        return Outcome("failed", None, "malformed_result", clipped(str(error)))
    except sqlite3.IntegrityError as error:
        message = f"The result contradicts the ledger: {error}."
        return Outcome("failed", None, "malformed_result", message)


def _stored(
    db: Database, job: JobRow, content: bytes, artifacts: Path, now_s: float
) -> Outcome:
    envelope = protocol.decode(protocol.ResultEnvelope, content)
    if envelope.state == "failed":
        failure = protocol.decode(protocol.Failure, envelope.result)
        reason = clipped(failure.reason, 60) or "failed"
        state = "cancelled" if job.cancel_requested and reason == "cancelled" else "failed"
        return Outcome(state, None, reason, clipped(failure.message))
    ledger = Ledger(db, artifacts, now_s)
    return Outcome("done", registry.named(job.kind).store(ledger, job, envelope.result))


def clipped(message: str, most: int = 4000) -> str:
    """At most ``most`` characters of the message, all of which SQLite can store."""
    return message.encode("utf-8", "replace").decode()[:most]


def content_of(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """Decompress a request body to at most ``most_bytes``.

    Raises ProtocolError (400, 413, 415).
    """
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise ProtocolError(f"Content-Encoding {encoding[:40]!r} is not supported. Use gzip.", 415)
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
    """Parse strict JSON (no NaN). Raises ProtocolError (400)."""
    try:
        return protocol.parse_json(content)
    except protocol.ProtocolError as error:
        raise ProtocolError(str(error)) from error
