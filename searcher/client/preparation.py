"""Files are prepared on the device before the job that runs them, where their runtime needs that.

    measure R c1 c2 --> prepare R, c1, c2 --> measure R c1 --> figures of c1, why c2 has none
                        known: no new jobs    |
                        c2 failed             not prepared: all of it once more, as new jobs

It works on the messages of the agents' protocol: what is prepared is what the device gets to run.
"""

import functools
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from agents import protocol
from agents.protocol import NOT_PREPARED, RUNTIMES, ArtifactRef, InferPayload, MeasurePayload
from searcher.client.records import Job
from searcher.documents import parse, plain
from searcher.statistics.measured import FileMeasurement, MeasureResult

Submit = Callable[[str, Mapping[str, object], Callable[[Job], None]], None]
"""Kind, payload, and the callback for when the job has ended; it is never called at once."""
_MESSAGES: Mapping[str, type[MeasurePayload] | type[InferPayload]] = {
    "measure": MeasurePayload, "infer": InferPayload}


def has_to_prepare(kind: str, payload: Mapping[str, object]) -> bool:
    return kind in _MESSAGES and RUNTIMES[str(payload["runtime"])].prepares


def with_preparation(kind: str, payload: Mapping[str, object],
                     ask: Callable[[str, Mapping[str, object]], Job]) -> Job:
    """The job when it has ended, and before it what it needs; ``ask`` waits for each."""
    if not has_to_prepare(kind, payload):
        return ask(kind, payload)
    asked: deque[tuple[str, Mapping[str, object], Callable[[Job], None]]] = deque()
    ended: list[Job] = []
    Preparation(lambda *request: asked.append(request), kind, payload, ended.append).begin()
    while asked:
        next_kind, request, then = asked.popleft()
        then(ask(next_kind, request))
    return ended[0]


class Preparation:
    """One job of kind ``measure`` or ``infer`` with what has to go before it. ``then`` is called
    once, with a job in which a file that could not be prepared failed; call ``begin`` once."""

    def __init__(self, submit: Submit, kind: str, payload: Mapping[str, object],
                 then: Callable[[Job], None]) -> None:
        self._submit, self._kind, self._then = submit, kind, then
        self._payload = dict(payload)
        self._message: MeasurePayload | InferPayload = protocol.decode(
            _MESSAGES[kind], dict(payload))
        self._left = 0
        self._failed: dict[str, str] = {}
        self._repeated = False

    def begin(self, attempt: int = 1) -> None:
        self._failed.clear()
        files = {file.sha256: file for file in self._files()}
        self._left = len(files)
        for sha256, file in files.items():
            request = protocol.PreparePayload(
                file, self._message.runtime, self._message.options, attempt)
            self._submit("prepare", protocol.as_json(request),
                         functools.partial(self._prepared, sha256))

    def _files(self) -> Sequence[ArtifactRef]:
        """The file without which the job is nothing, then the others."""
        message = self._message
        return ([message.model] if isinstance(message, InferPayload)
                else [message.reference, *message.candidates])

    def _prepared(self, sha256: str, job: Job) -> None:
        if job.state != "done":
            self._failed[sha256] = f"{NOT_PREPARED}: {job.why}"
        self._left -= 1
        if self._left == 0:
            self._go_on()

    def _go_on(self) -> None:
        first, *others = self._files()
        if first.sha256 in self._failed:
            self._then(Job(0, "failed", message=self._failed[first.sha256],
                           reason="reference" if others else NOT_PREPARED))
            return
        able = [file for file in others if file.sha256 not in self._failed]
        if others and not able:
            self._then(Job(0, "done", result=plain(MeasureResult(tuple(self._entries())))))
            return
        candidates = {"candidates": protocol.as_json(able)} if others else {}
        self._submit(self._kind, {**self._payload, **candidates}, self._ran)

    def _ran(self, job: Job) -> None:
        if not self._repeated and any(NOT_PREPARED in text for text in _reasons(job)):
            # The device keeps a bounded number, and another version needs its own.
            self._repeated, attempt = True, secrets.randbelow(2**31)
            self._payload["attempt"] = attempt
            self._message = self._message._replace(attempt=attempt)
            self.begin(attempt)
            return
        if self._failed and job.state == "done":
            found = parse(MeasureResult, job.result)
            measured = (*found.measurements, *self._entries())
            job = replace(job, result=plain(replace(found, measurements=measured)))
        self._then(job)

    def _entries(self) -> list[FileMeasurement]:
        return [FileMeasurement(sha256, "failed", (why,)) for sha256, why in self._failed.items()]


def _reasons(job: Job) -> list[str]:
    """Of the job and of its files."""
    found = [job.reason or "", job.message or ""]
    if job.kind == "measure" and job.result is not None:
        found += [reason for entry in parse(MeasureResult, job.result).measurements
                  for reason in entry.reasons]
    return found
