"""Prepares files on the device before the job that runs them, if their runtime requires it.

    measure R c1 c2 --> prepare R, c1, c2 --> measure R c1 --> result of c1, failure of c2
                        done before: no job   |
                        c2 failed             not prepared: repeat everything once

It uses the messages of the agents' protocol, so that the device runs exactly the prepared files.
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
"""Submits a job (kind, payload) and calls the callback after its end, never during the call."""
_MESSAGES: Mapping[str, type[MeasurePayload] | type[InferPayload]] = {
    "measure": MeasurePayload, "infer": InferPayload}


def has_to_prepare(kind: str, payload: Mapping[str, object]) -> bool:
    return kind in _MESSAGES and RUNTIMES[str(payload["runtime"])].prepares


def with_preparation(kind: str, payload: Mapping[str, object],
                     run: Callable[[str, Mapping[str, object]], Job]) -> Job:
    """Run the necessary preparations, then the job. ``run`` submits a job and waits for its end."""
    if not has_to_prepare(kind, payload):
        return run(kind, payload)
    submitted: deque[tuple[str, Mapping[str, object], Callable[[Job], None]]] = deque()
    ended: list[Job] = []
    Preparation(lambda *request: submitted.append(request), kind, payload, ended.append).begin()
    while submitted:
        next_kind, request, then = submitted.popleft()
        then(run(next_kind, request))
    return ended[0]


class Preparation:
    """A job of kind ``measure`` or ``infer`` with its preparations. Call ``begin`` once.

    ``then`` is called once, with the job; a file that could not be prepared has failed in it.
    """

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
        """The files to prepare; the first one is required, the others are candidates."""
        message = self._message
        return ([message.model] if isinstance(message, InferPayload)
                else [message.reference, *message.candidates])

    def _prepared(self, sha256: str, job: Job) -> None:
        if job.state != "done":
            self._failed[sha256] = f"{NOT_PREPARED}: {job.why}"
        self._left -= 1
        if self._left == 0:
            self._submit_job()

    def _submit_job(self) -> None:
        first, *others = self._files()
        if first.sha256 in self._failed:
            self._then(Job(0, "failed", message=self._failed[first.sha256],
                           reason="reference" if others else NOT_PREPARED))
            return
        prepared = [file for file in others if file.sha256 not in self._failed]
        if others and not prepared:
            self._then(Job(0, "done", result=plain(MeasureResult(tuple(self._entries())))))
            return
        candidates = {"candidates": protocol.as_json(prepared)} if others else {}
        self._submit(self._kind, {**self._payload, **candidates}, self._ran)

    def _ran(self, job: Job) -> None:
        if not self._repeated and any(NOT_PREPARED in text for text in _reasons(job)):
            # The device may have dropped a preparation, or updated its runtime since then.
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
    """Reasons of the job and of its files."""
    found = [job.reason or "", job.message or ""]
    if job.kind == "measure" and job.result is not None:
        found += [reason for entry in parse(MeasureResult, job.result).measurements
                  for reason in entry.reasons]
    return found
