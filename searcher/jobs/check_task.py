"""Job kind ``check_task``: look at a task once, before anything is built from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from searcher.documents import parse, plain
from searcher.errors import ProtocolError
from searcher.jobs import fields
from searcher.jobs.base import JobKind, JobRequest, Ledger
from searcher.jobs.build import target_of
from searcher.ledger.rows import JobRow
from searcher.ledger.tables.search_state import TaskFacts
from strategies.target import Target

DEADLINE_S = 3600.0
MOST_ROWS = 500
MOST_LETTERS = 2000

Verdict = Literal["ok", "note", "warning", "error", "not checked"]


@dataclass(frozen=True)
class CheckRow:
    """What was found of one ``field`` of a task, and what to do about it (``remedy``, empty when
    there is nothing to do). Only an ``error`` stops a campaign."""

    field: str
    found: str
    verdict: Verdict = "ok"
    remedy: str = ""

    def __str__(self) -> str:
        """The row as a sentence of a message."""
        return f"{self.field}: {self.found}" + (f" {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class TaskCheck:
    """The table of a check. ``facts`` is None when a row is an error."""

    rows: tuple[CheckRow, ...]
    facts: TaskFacts | None = None

    def of(self, verdict: Verdict) -> list[CheckRow]:
        """The rows with this verdict."""
        return [row for row in self.rows if row.verdict == verdict]


@dataclass(frozen=True)
class CheckTaskRequest(JobRequest[TaskCheck]):
    """A task to check. Its data may change between two checks, so ``attempt`` makes each request
    a new job."""

    task: str
    seed: int = 0
    target: Target = field(default_factory=Target)
    attempt: int = 0

    @property
    def kind(self) -> str:
        return CheckTask.name

    def payload(self) -> dict[str, object]:
        return {"task": self.task, "seed": self.seed, "target": self.target.as_dict(),
                "attempt": self.attempt}

    def result(self, document: Mapping[str, object]) -> TaskCheck:
        return parse(TaskCheck, document)

    def named_task(self) -> str:
        return self.task

    def deadline_s(self) -> float:
        return DEADLINE_S


class CheckTask(JobKind):
    """Looks at model, data, loss and metric of a task, trains one step, exports the model."""

    name: ClassVar[str] = "check_task"
    span: ClassVar[str] = "check_task"
    execution: ClassVar[str] = "searcher.builders.work:check_task"

    def parse(self, payload: Mapping[str, object]) -> CheckTaskRequest:
        return CheckTaskRequest(
            fields.text_of(payload.get("task"), "task"),
            fields.whole_of(payload.get("seed"), "seed"), target_of(payload.get("target")),
            fields.whole_of(payload.get("attempt", 0), "attempt"))

    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        """Store nothing beside the job: the search stores the facts in its state."""
        rows = fields.list_of(result.get("rows"), "rows", MOST_ROWS)
        if not rows:
            raise ProtocolError("rows must not be empty.")
        try:
            return plain(parse(TaskCheck, {"rows": [_row(row) for row in rows],
                                           "facts": result.get("facts")}))
        except ValueError as error:
            raise ProtocolError(f"The table of a check: {error}.") from error


def _row(document: object) -> dict[str, object]:
    """A row with texts that SQLite can store."""
    row = fields.table_of(document, "row")
    return {name: value.encode("utf-8", "replace").decode()[:MOST_LETTERS]
            if isinstance(value, str) else value for name, value in row.items()}
