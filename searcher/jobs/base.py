"""Base classes of job kinds: a request, its result, and the storage of the result.

A kind is one file of this package and one line of ``searcher.jobs.registry``. Both sides use the
request class: a search creates a request and reads its result; the coordinator checks a request
and stores the result.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Literal, TypeVar

from sqlite_utils import Database

from searcher.ledger.rows import JobRow

Result = TypeVar("Result", covariant=True)
PoolKind = Literal["builder", "device"]
BUILDER = "builder"
"""The pool of all builders. The pool of a device is ``device:<name>``."""
BUILD_DEADLINE_S = 86_400.0


def device_of(pool: str) -> str:
    """The name of the device of ``pool``."""
    return pool.removeprefix("device:")


def pool_of(device: str) -> str:
    return f"device:{device}"


class JobRequest(ABC, Generic[Result]):
    """The request for a job. Subclasses are frozen dataclasses.

    Equal requests have equal payloads.
    """

    @property
    @abstractmethod
    def kind(self) -> str:
        """The name of the job kind."""

    @property
    def runs_on(self) -> PoolKind:
        return "builder"

    @abstractmethod
    def payload(self) -> dict[str, object]:
        """The request as plain JSON, which ``JobKind.parse`` reads."""

    @abstractmethod
    def result(self, document: Mapping[str, object]) -> Result:
        """Parse the stored result of a job that is done."""

    def files(self) -> Sequence[str]:
        """The sha256 of every file that the job reads, models first."""
        return ()

    def models(self) -> Sequence[str]:
        """The ``files`` that the job runs. Uploaded ones must be inspected first."""
        return ()

    def named_task(self) -> str | None:
        """The task that a builder loads for the job. A daemon runs only allowed tasks."""
        return None

    def deadline_s(self) -> float:
        """Longest duration of a lease, even with heartbeats."""
        return BUILD_DEADLINE_S

    def weight(self) -> int:
        """Number of candidates that wait with this job for a quiet window."""
        return 0


@dataclass(frozen=True)
class Ledger:
    """Where a result is stored: the ledger, in a transaction, and the folder of artifacts."""

    db: Database
    artifacts: Path
    now_s: float


class JobKind(ABC):
    """A kind of jobs.

    ``span`` is the kind of its spans in the ledger. ``execution`` names the function that runs a
    builder's job, as ``package.module:function``: (workshop, request) -> document.
    """

    name: ClassVar[str]
    runs_on: ClassVar[PoolKind] = "builder"
    span: ClassVar[str]
    execution: ClassVar[str] = ""

    @abstractmethod
    def parse(self, payload: Mapping[str, object]) -> JobRequest[object]:
        """Parse and check a request. Raises ProtocolError (400), which names the field."""

    @abstractmethod
    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        """Store the result that a builder or device sent, and return the part that the search
        reads. Raises ProtocolError for a malformed result."""
