"""Submits the jobs of one campaign and calls back when they end."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from agents.protocol import canonical_json, content_sha256
from searcher.client.http import CoordinatorClient
from searcher.client.preparation import Preparation, has_to_prepare
from searcher.client.records import Job
from searcher.errors import DroppedError, ProtocolError

Result = TypeVar("Result")
Read = TypeVar("Read", covariant=True)


class Request(Protocol[Read]):
    """The request for a job; ``searcher.jobs`` has one class per kind."""

    @property
    def kind(self) -> str: ...

    @property
    def runs_on(self) -> str: ...

    def payload(self) -> dict[str, object]: ...

    def result(self, document: Mapping[str, object]) -> Read:
        """Parse the result of a job that is done. Raises ValueError for an invalid document."""
        ...


@dataclass(frozen=True)
class EndedJob(Generic[Result]):
    """A job that ended.

    ``result`` is set if the job is done; otherwise ``why`` is the cause. ``job`` is None for a job
    that was never submitted. ``took_s`` are the seconds of work, 0 where unknown.
    """

    state: str
    result: Result | None
    reason: str = ""
    message: str = ""
    job: int | None = None
    took_s: float = 0.0

    @property
    def why(self) -> str:
        return self.message or self.reason or self.state


Then = Callable[[EndedJob[Result]], None]
_Ended = Callable[[Job], None]


def reference_problem(job: EndedJob[Result]) -> str | None:
    """Why the reference failed, in the words of the agent without its prefix "The reference
    failed". None if something else failed."""
    if job.reason != "reference":
        return None
    return job.message.removeprefix("The reference failed: ").rstrip(".") or "it failed"


def ended(job: Job, request: Request[Result]) -> EndedJob[Result]:
    """``job``, which has ended, with its result parsed by ``request``."""
    result = request.result(job.result) if job.state == "done" and job.result else None
    return EndedJob(job.state, result, job.reason or "", job.message or "",
                    job.job or None, job.took_s or 0.0)


def run_job(client: CoordinatorClient, request: Request[Result], *, campaign: str | None = None,
            priority: int = 0, queue_s: float | None = None) -> EndedJob[Result]:
    """Submit a builder's request and wait for its end, for a command or search that has no other
    job. It fails (``queue_timeout``) unless a builder leases it within ``queue_s``."""
    job = client.submit_job(request.kind, request.runs_on, request.payload(), campaign=campaign,
                            priority=priority, retry=True, queue_s=queue_s)
    while not job.has_ended:
        job = client.wait_job(job.job, wait_s=20.0)
    return ended(job, request)


class JobFlow:
    """Submits jobs, and calls the callback of each job after its end. Use it from one thread.

    Dropped files are built again before the job that needs them. Files are prepared on the device
    if their runtime requires it.
    """

    def __init__(self, client: CoordinatorClient, campaign: str, device: str) -> None:
        self._client, self._campaign, self._device = client, campaign, device
        self._sequence = 0
        self._prepared: set[str] = set()
        self._waiting: dict[int, list[_Ended]] = {}
        self._ended: deque[tuple[_Ended, Job]] = deque()

    @property
    def has_news(self) -> bool:
        """Whether the callback of an ended job has not run yet."""
        return bool(self._ended)

    def submit(self, request: Request[Result], priority: int, then: Then[Result]) -> None:
        """Submit a request; equal requests have one job. ``then`` runs in ``listen``."""
        def has_ended(job: Job) -> None:
            then(ended(job, request))

        def submit(kind: str, payload: Mapping[str, object], then: _Ended) -> None:
            self._submit(kind, request.runs_on, payload, priority, then)

        payload = request.payload()
        if has_to_prepare(request.kind, payload):
            Preparation(submit, request.kind, payload, has_ended).begin()
        else:
            submit(request.kind, payload, has_ended)

    def _submit(self, kind: str, runs_on: str, payload: Mapping[str, object], priority: int,
                then: _Ended) -> None:
        pool = f"device:{self._device}" if runs_on == "device" else runs_on
        try:
            job = self._client.submit_job(kind, pool, payload, campaign=self._campaign,
                                          priority=priority, retry=self._is_new(kind, payload))
        except DroppedError as gone:
            self._rebuild(gone.sha256, then,
                          lambda: self._submit(kind, runs_on, payload, priority, then))
        else:
            self._await(job, then)

    def _is_new(self, kind: str, payload: Mapping[str, object]) -> bool:
        """Whether this is the first request of this process for this preparation. It is then
        retried once, because the cause of an earlier failure may have been corrected."""
        key = content_sha256(canonical_json(dict(payload)))
        if kind != "prepare" or key in self._prepared:
            return False
        self._prepared.add(key)
        return True

    def _rebuild(self, sha256: str, then: _Ended, submit_again: Callable[[], None]) -> None:
        """Build a file again, then call ``submit_again``. If that fails, ``then`` gets a failed
        job."""
        def rebuilt(job: Job) -> None:
            if job.state == "done" and (job.result or {}).get("sha256") == sha256:
                submit_again()
            else:
                why = job.message or job.reason or "the rebuild was cancelled"
                self._ended.append((then, _not_rebuilt(sha256, why)))

        try:
            self._await(self._client.rebuild(sha256, self._campaign), rebuilt)
        except ProtocolError as error:
            self._ended.append((then, _not_rebuilt(sha256, str(error))))

    def _await(self, job: Job, then: _Ended) -> None:
        if job.has_ended:
            self._ended.append((then, job))
        else:
            self._waiting.setdefault(job.job, []).append(then)

    def listen(self, wait_s: float) -> None:
        """Call the callbacks of all ended jobs. Waits at most ``wait_s`` for a job to end."""
        answer = self._client.finished(self._campaign, self._sequence,
                                       0.0 if self._ended else wait_s)
        self._sequence = answer.seq
        for job in answer.jobs:
            for then in self._waiting.pop(job.job, ()):
                self._ended.append((then, job))
        while self._ended:
            then, job = self._ended.popleft()
            then(job)

    def wait_for(self, request: Request[Result], priority: int) -> EndedJob[Result]:
        """Submit a request and wait for its end, for jobs on which all others depend."""
        found: list[EndedJob[Result]] = []
        self.submit(request, priority, found.append)
        while not found:
            self.listen(20.0)
        return found[0]


def _not_rebuilt(sha256: str, why: str) -> Job:
    return Job(0, "failed", reason="not_rebuilt",
               message=f"The dropped file {sha256} could not be built again: {why}")
