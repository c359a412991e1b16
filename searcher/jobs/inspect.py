"""Job kind ``inspect``: read an uploaded model and decide whether it may run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from sqlite_utils import Database

from searcher.artifacts.formats import registry as formats
from searcher.documents import parse
from searcher.errors import ProtocolError
from searcher.jobs import fields
from searcher.jobs.base import JobKind, JobRequest, Ledger
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import builds

DEADLINE_S = 600.0
MOST_VALUES = 256
"""Limit for the inputs, and for the outputs, of a model."""

MOST_DOMAINS = 64
MOST_DIMENSIONS = 32


def check(db: Database, sha256: str) -> None:
    """Raises ProtocolError unless the file may run: 409 for an upload without an inspection, 400
    for a refused upload. Files of builders need no inspection."""
    row = builds.artifact(db, sha256)
    if row is None or row.origin != "upload":
        return
    if row.inspection is None:
        raise ProtocolError(
            f"The uploaded file {sha256} has not been inspected. Submit a job of kind \"inspect\" "
            f"to the pool \"builder\" with the payload {{\"sha256\": \"{sha256}\"}}, wait for it, "
            "then repeat this request; `fleetfront measure` does so.", 409)
    if not row.inspection["accepted"]:
        raise ProtocolError(
            f"The uploaded file {sha256} was refused ({row.inspection['reason']}): "
            f"{row.inspection['message']}")


@dataclass(frozen=True)
class Inspection:
    """The inspection of an uploaded model.

    ``reason`` and ``message`` are set for a refused model. ``report`` is the whole document.
    """

    accepted: bool
    reason: str = ""
    message: str = ""
    report: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class InspectRequest(JobRequest[Inspection]):
    """An uploaded file to inspect."""

    sha256: str
    file_format: str = formats.DEFAULT

    @property
    def kind(self) -> str:
        return Inspect.name

    def payload(self) -> dict[str, object]:
        other = {} if self.file_format == formats.DEFAULT else {"format": self.file_format}
        return {"sha256": self.sha256, **other}

    def result(self, document: Mapping[str, object]) -> Inspection:
        found = fields.table_of(document.get("inspection"), "inspection")
        return parse(Inspection, {**found, "report": found})

    def files(self) -> tuple[str]:
        return (self.sha256,)

    def deadline_s(self) -> float:
        return DEADLINE_S


class Inspect(JobKind):
    """Reads a model of unknown origin in a child process of a builder, with bounded resources."""

    name: ClassVar[str] = "inspect"
    span: ClassVar[str] = "inspect"
    execution: ClassVar[str] = "searcher.builders.work:inspect"

    def parse(self, payload: Mapping[str, object]) -> InspectRequest:
        return InspectRequest(fields.sha256_of(payload.get("sha256"), "sha256"),
                              fields.format_of(payload))

    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        found = fields.table_of(result.get("inspection"), "inspection")
        if found.get("accepted") is True:
            kept = _accepted(found)
        else:
            kept = {
                "accepted": False, "reason": fields.text_of(found.get("reason"), "reason", 60),
                "message": fields.text_of(found.get("message"), "message")}
        builds.put_inspection(ledger.db, self.parse(job.payload).sha256, kept)
        return {"inspection": kept}


def _accepted(found: Mapping[str, object]) -> dict[str, object]:
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


def _words(found: Mapping[str, object], name: str) -> list[str]:
    return [fields.text_of(word, name)
            for word in fields.list_of(found.get(name), name, MOST_DOMAINS)]


def _values(found: Mapping[str, object], where: str) -> list[dict[str, object]]:
    values = [fields.table_of(value, where)
              for value in fields.list_of(found.get(where), where, MOST_VALUES)]
    return [{
        "name": fields.text_of(value.get("name"), f"name in {where}"),
        "format": fields.text_of(value.get("format"), f"format in {where}", 40),
        "shape": [_size(size, where) for size in fields.list_of(
            value.get("shape"), f"shape in {where}", MOST_DIMENSIONS)],
    } for value in values]


def _size(size: object, where: str) -> int | None:
    return None if size is None else fields.whole_of(size, f"size in {where}")
