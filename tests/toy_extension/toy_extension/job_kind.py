"""A job kind: a builder answers a greeting."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from searcher.errors import ProtocolError
from searcher.jobs.base import JobKind, JobRequest


@dataclass(frozen=True)
class GreetingRequest(JobRequest[str]):
    name: str

    @property
    def kind(self) -> str:
        return Greeting.name

    def payload(self) -> dict[str, object]:
        return {"name": self.name}

    def result(self, document: Mapping[str, object]) -> str:
        return str(document["greeting"])


class Greeting(JobKind):
    name: ClassVar[str] = "toy_greeting"
    span: ClassVar[str] = "evaluate"
    execution: ClassVar[str] = "toy_extension.job_kind:greet"

    def parse(self, payload: Mapping[str, object]) -> GreetingRequest:
        if not isinstance(payload.get("name"), str):
            raise ProtocolError("name must be a text.")
        return GreetingRequest(str(payload["name"]))

    def store(self, ledger, job, result: Mapping[str, object]) -> dict[str, object]:
        return {"greeting": str(result["greeting"])}


def greet(workshop, request: GreetingRequest) -> dict[str, object]:
    """What a builder does."""
    return {"greeting": f"Hello, {request.name}!"}
