"""What a kind of job is: its request, its result, and what the ledger keeps of it.

A kind is one file of this package and one line of ``searcher.jobs.registry``. The request class
serves both sides: a search makes one and reads its result, the coordinator checks one and stores
the result of whoever did the job.
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
"""The pool of all builders; that of a device is ``device:<name>``."""
BUILD_DEADLINE_S = 86_400.0


def device_of(pool: str) -> str:
    """The name of a pool's device."""
    return pool.removeprefix("device:")


def pool_of(device: str) -> str:
    return f"device:{device}"


class JobRequest(ABC, Generic[Result]):
    """One job's request; a subclass is a frozen dataclass. Equal requests have equal payloads."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """The name of its kind."""

    @property
    def runs_on(self) -> PoolKind:
        return "builder"

    @abstractmethod
    def payload(self) -> dict[str, object]:
        """Plain JSON; the kind's ``parse`` reads it back."""

    @abstractmethod
    def result(self, document: Mapping[str, object]) -> Result:
        """What the ledger keeps of a job that is done, as the search reads it."""

    def files(self) -> Sequence[str]:
        """The sha256 of every file that the job reads; models first."""
        return ()

    def models(self) -> Sequence[str]:
        """Those of ``files`` that are run: uploaded ones have to be inspected first."""
        return ()

    def named_task(self) -> str | None:
        """The task that a builder loads for it: a daemon runs the allowed ones only."""
        return None

    def deadline_s(self) -> float:
        """Longest lease, with heartbeats or without."""
        return BUILD_DEADLINE_S

    def weight(self) -> int:
        """How many candidates wait with this job for a quiet window."""
        return 0


@dataclass(frozen=True)
class Ledger:
    """Where a result is stored: the ledger within a transaction, and the folder of artifacts."""

    db: Database
    artifacts: Path
    now_s: float


class JobKind(ABC):
    """``span`` is what its time counts as in the ledger's spans; ``execution`` names the function
    that does a builder's job, as ``package.module:function`` of (workshop, request) -> document."""

    name: ClassVar[str]
    runs_on: ClassVar[PoolKind] = "builder"
    span: ClassVar[str]
    execution: ClassVar[str] = ""

    @abstractmethod
    def parse(self, payload: Mapping[str, object]) -> JobRequest[object]:
        """The request in ``payload``. Raises ProtocolError (400), which names the field."""

    @abstractmethod
    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        """Store what a builder or device sent, and return what the search reads. Raises
        ProtocolError when the result is malformed."""
