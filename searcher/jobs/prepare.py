"""Job kind ``prepare``: a device builds and stores what its runtime needs to run a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from agents import protocol
from searcher.documents import parse
from searcher.jobs import fields
from searcher.jobs.base import JobKind, JobRequest, Ledger, PoolKind
from searcher.ledger.rows import JobRow

DEADLINE_S = 7200.0


@dataclass(frozen=True)
class PrepareResult:
    """Duration and size of a preparation. ``reused``: the device already had it."""

    prepare_s: float
    reused: bool
    kept_bytes: int


@dataclass(frozen=True)
class PrepareRequest(JobRequest[PrepareResult]):
    """A model to prepare. ``client.preparation`` submits it before the jobs that run the model."""

    message: protocol.PreparePayload

    @property
    def kind(self) -> str:
        return Prepare.name

    @property
    def runs_on(self) -> PoolKind:
        return "device"

    def payload(self) -> dict[str, object]:
        return dict(protocol.as_json(self.message))

    def result(self, document: Mapping[str, object]) -> PrepareResult:
        return parse(PrepareResult, document)

    def files(self) -> tuple[str]:
        return (self.message.model.sha256,)

    def models(self) -> tuple[str]:
        return self.files()

    def deadline_s(self) -> float:
        return DEADLINE_S


class Prepare(JobKind):
    """See ``PrepareRequest``."""

    name: ClassVar[str] = "prepare"
    runs_on: ClassVar[PoolKind] = "device"
    span: ClassVar[str] = "prepare"

    def parse(self, payload: Mapping[str, object]) -> PrepareRequest:
        message = fields.message_of(protocol.PreparePayload, payload)
        fields.check_run(message.runtime, message.attempt, message.model)
        return PrepareRequest(message)

    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        """Store nothing: the prepared model stays on the device."""
        found = protocol.decode(protocol.PrepareResult, dict(result))
        return {"prepare_s": fields.number_of(found.prepare_s, "prepare_s", 0.0),
                "reused": found.reused,
                "kept_bytes": fields.whole_of(found.kept_bytes, "kept_bytes"),
                "environment": {"key": found.environment.get("key"),
                                "runtime": found.environment.get("runtime")}}
