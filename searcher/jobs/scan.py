"""Job kind ``scan``: what each layer of a task loses when it alone is compressed by a strategy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from searcher.documents import parse, plain
from searcher.errors import ProtocolError
from searcher.jobs import fields
from searcher.jobs.base import BUILD_DEADLINE_S, JobKind, JobRequest, Ledger
from searcher.jobs.build import target_of
from searcher.ledger.rows import JobRow
from searcher.spec.scan_result import ScanResult
from strategies.target import Target


@dataclass(frozen=True)
class ScanRequest(JobRequest[ScanResult]):
    """A scan of one strategy that has ``by_layer``; in about ``seconds``, it looks at fewer
    strengths, then at fewer samples."""

    task: str
    strategy: str
    seed: int = 0
    target: Target = field(default_factory=Target)
    seconds: float = 60.0

    @property
    def kind(self) -> str:
        return Scan.name

    def payload(self) -> dict[str, object]:
        return {"task": self.task, "strategy": self.strategy, "seed": self.seed,
                "target": self.target.as_dict(), "seconds": self.seconds}

    def result(self, document: Mapping[str, object]) -> ScanResult:
        return parse(ScanResult, document)

    def named_task(self) -> str:
        return self.task

    def deadline_s(self) -> float:
        return BUILD_DEADLINE_S


class Scan(JobKind):
    """Compresses each layer alone at a few strengths and compares the outputs of the model."""

    name: ClassVar[str] = "scan"
    span: ClassVar[str] = "scan"
    execution: ClassVar[str] = "searcher.builders.work:scan"

    def parse(self, payload: Mapping[str, object]) -> ScanRequest:
        seconds = fields.number_of(payload.get("seconds", 60.0), "seconds")
        if not 0 <= seconds <= BUILD_DEADLINE_S:
            raise ProtocolError(f"seconds = {seconds!r} must be from 0 to {BUILD_DEADLINE_S:g}.")
        return ScanRequest(
            fields.text_of(payload.get("task"), "task"),
            fields.text_of(payload.get("strategy"), "strategy", 200),
            fields.whole_of(payload.get("seed"), "seed"), target_of(payload.get("target")),
            seconds)

    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        """Store nothing beside the job, which the state of the search names."""
        try:
            return plain(parse(ScanResult, result))
        except ValueError as error:
            raise ProtocolError(f"The result of a scan: {error}.") from error
