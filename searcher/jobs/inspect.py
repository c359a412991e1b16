"""The result of an ``inspect`` job, and what it decides: who may run an uploaded model."""

from collections.abc import Mapping
from typing import Any

from sqlite_utils import Database

from searcher.errors import ProtocolError
from searcher.jobs import fields
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import builds

MOST_VALUES = 256
"""Inputs, or outputs, of one model."""

MOST_DOMAINS = 64
MOST_DIMENSIONS = 32


def check(db: Database, sha256: str) -> None:
    """Raises ProtocolError unless the file may be run: 409 for an upload that no builder has
    inspected, 400 for one that was refused. Files that builders made need no inspection."""
    row = builds.artifact(db, sha256)
    if row is None or row.origin != "upload":
        return
    if row.inspection is None:
        raise ProtocolError(
            f"The uploaded file {sha256} has not been inspected. Submit a job of kind \"inspect\" "
            f"to the pool \"builder\" with the payload {{\"sha256\": \"{sha256}\"}}, wait for it, "
            "then send this again; `fleetfront measure` does so.", 409)
    if not row.inspection["accepted"]:
        raise ProtocolError(
            f"The uploaded file {sha256} was refused ({row.inspection['reason']}): "
            f"{row.inspection['message']}")


def store_inspection(db: Database, job: JobRow, result: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what a builder found. Raises ProtocolError when it is malformed."""
    found = fields.table_of(result.get("inspection"), "inspection")
    if found.get("accepted") is True:
        kept = _accepted(found)
    else:
        kept = {
            "accepted": False, "reason": fields.text_of(found.get("reason"), "reason", 60),
            "message": fields.text_of(found.get("message"), "message"),
        }
    builds.put_inspection(db, job.payload["sha256"], kept)
    return {"inspection": kept}


def _accepted(found: Mapping[str, Any]) -> dict[str, Any]:
    macs = found.get("macs")
    domains = fields.table_of(found.get("domains"), "domains")
    if len(domains) > MOST_DOMAINS:
        raise ProtocolError(f"domains must be at most {MOST_DOMAINS}, got {len(domains)}.")
    return {
        "accepted": True, "inputs": _values(found, "inputs"), "outputs": _values(found, "outputs"),
        "opset": fields.whole_of(found.get("opset"), "opset"),
        "ir_version": fields.whole_of(found.get("ir_version"), "ir_version"),
        "domains": {
            fields.text_of(name, "domain", 400): fields.whole_of(version, "version of a domain")
            for name, version in domains.items()},
        "custom_domains": _words(found, "custom_domains"),
        "parameters": fields.whole_of(found.get("parameters"), "parameters"),
        "macs": None if macs is None else fields.whole_of(macs, "macs"),
        "number_formats": _words(found, "number_formats"), "notes": _words(found, "notes"),
    }


def _words(found: Mapping[str, Any], name: str) -> list[str]:
    return [fields.text_of(word, name)
            for word in fields.list_of(found.get(name), name, MOST_DOMAINS)]


def _values(found: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    values = [fields.table_of(value, where)
              for value in fields.list_of(found.get(where), where, MOST_VALUES)]
    return [{
        "name": fields.text_of(value.get("name"), f"name in {where}"),
        "format": fields.text_of(value.get("format"), f"format in {where}", 40),
        "shape": [_size(size, where) for size in fields.list_of(
            value.get("shape"), f"shape in {where}", MOST_DIMENSIONS)],
    } for value in values]


def _size(size: Any, where: str) -> int | None:
    return None if size is None else fields.whole_of(size, f"size in {where}")
