"""Files are prepared on the device before the job that runs them, where their runtime needs that.

    measure R c1 c2 --> prepare R, c1, c2 --> measure R c1 --> figures of c1, why c2 has none
                        known: no new jobs    |
                        c2 failed             not prepared any more: all of it once more, anew
"""

import functools
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from agents.protocol import NOT_PREPARED, RUNTIMES
from searcher.client.http import Kind

Job = Mapping[str, Any]
Submit = Callable[[Kind, Mapping[str, Any], Callable[[Job], None]], None]
"""Kind, payload, and who is called when the job has ended; never at once."""


def has_to_prepare(kind: Kind, payload: Mapping[str, Any]) -> bool:
    return kind in ("measure", "infer") and RUNTIMES[payload["runtime"]].prepares


def with_preparation(kind: Kind, payload: Mapping[str, Any],
                     ask: Callable[[Kind, Mapping[str, Any]], Job]) -> Job:
    """The job when it has ended, and before it what it needs; ``ask`` waits for each."""
    if not has_to_prepare(kind, payload):
        return ask(kind, payload)
    asked: deque[tuple[Kind, Mapping[str, Any], Callable[[Job], None]]] = deque()
    ended: list[Job] = []
    Preparation(lambda *request: asked.append(request), kind, payload, ended.append).begin()
    while asked:
        next_kind, request, then = asked.popleft()
        then(ask(next_kind, request))
    return ended[0]


class Preparation:
    """One job of kind ``measure`` or ``infer`` with what has to go before it. ``then`` is called
    once, with a job in which a file that could not be prepared failed; call ``begin`` once."""

    def __init__(self, submit: Submit, kind: Kind, payload: Mapping[str, Any],
                 then: Callable[[Job], None]) -> None:
        self._submit, self._kind, self._payload, self._then = submit, kind, payload, then
        self._left = 0
        self._failed: dict[str, str] = {}
        self._anew = False

    def begin(self, attempt: int = 1) -> None:
        self._failed.clear()
        first, *others = _files(self._payload)
        files = {file["sha256"]: file for file in (first, *others)}
        self._left = len(files)
        for sha256, file in files.items():
            request = {"model": dict(file), "runtime": self._payload["runtime"],
                       "options": self._payload["options"], "attempt": attempt}
            self._submit("prepare", request, functools.partial(self._prepared, sha256))

    def _prepared(self, sha256: str, job: Job) -> None:
        if job["state"] != "done":
            why = job.get("message") or job.get("reason") or job["state"]
            self._failed[sha256] = f"{NOT_PREPARED}: {why}"
        self._left -= 1
        if self._left == 0:
            self._go_on()

    def _go_on(self) -> None:
        first, *others = _files(self._payload)
        if first["sha256"] in self._failed:
            self._then({"state": "failed", "result": None, "reason": "reference" if others else
                        NOT_PREPARED, "message": self._failed[first["sha256"]]})
            return
        able = [file for file in others if file["sha256"] not in self._failed]
        if others and not able:
            self._then({"state": "done", "result": {"measurements": self._entries()}})
            return
        narrowed = {**self._payload, "candidates": able} if others else self._payload
        self._submit(self._kind, narrowed, self._ran)

    def _ran(self, job: Job) -> None:
        if not self._anew and any(NOT_PREPARED in text for text in _said(job)):
            # The device keeps a bounded number, and another version needs its own.
            self._anew, attempt = True, secrets.randbelow(2**31)
            self._payload = {**self._payload, "attempt": attempt}
            self.begin(attempt)
            return
        if self._failed and job["state"] == "done":
            measured = [*job["result"]["measurements"], *self._entries()]
            job = {**job, "result": {**job["result"], "measurements": measured}}
        self._then(job)

    def _entries(self) -> list[dict[str, Any]]:
        return [{"sha256": sha256, "verdict": "failed", "reasons": [why]}
                for sha256, why in self._failed.items()]


def _files(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The file without which the job is nothing, then the others."""
    if "model" in payload:
        return [payload["model"]]
    return [payload["reference"], *payload["candidates"]]


def _said(job: Job) -> list[str]:
    """Reasons, of the job and of its files."""
    entries = (job.get("result") or {}).get("measurements", [])
    return [str(job.get("reason")), str(job.get("message")),
            *(reason for entry in entries for reason in entry["reasons"])]
