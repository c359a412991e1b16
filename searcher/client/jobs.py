"""Jobs of one campaign from the search's side: submit, and be called when they end."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from agents.protocol import DEVICE_KINDS, canonical_json, content_sha256
from searcher.client.http import CoordinatorClient, Kind
from searcher.client.preparation import Job as Job
from searcher.client.preparation import Preparation, has_to_prepare
from searcher.errors import DroppedError, ProtocolError

Then = Callable[[Job], None]
ENDED = ("done", "failed", "cancelled")


def reference_problem(job: Job) -> str | None:
    """Why the reference failed (as agents say it), without its role: users know its file; None
    when something else did."""
    if job.get("reason") != "reference":
        return None
    told = str(job["message"] or "").removeprefix("The reference failed: ")
    return told.rstrip(".") or "it failed"


class JobFlow:
    """Submits jobs and hands each to its callback when it ends; single-threaded.

    Files that were dropped to bound the disk are built again before the job that needs them, and
    prepared on the device where their runtime needs that.
    """

    def __init__(self, client: CoordinatorClient, campaign: str, device: str) -> None:
        self._client, self._campaign, self._device = client, campaign, device
        self._sequence = 0
        self._asked: set[str] = set()
        self._waiting: dict[int, list[Then]] = {}
        self._ended: deque[tuple[Then, Job]] = deque()

    @property
    def has_news(self) -> bool:
        """Whether a job has ended whose callback has not run yet."""
        return bool(self._ended)

    def submit(self, kind: Kind, payload: Mapping[str, Any], priority: int, then: Then) -> None:
        """The same request again is the same job, done or not; ``then`` runs in ``listen``."""
        if not has_to_prepare(kind, payload):
            self._submit(kind, payload, priority, then)
            return
        Preparation(lambda kind, payload, then: self._submit(kind, payload, priority, then),
                    kind, payload, then).begin()

    def _submit(self, kind: Kind, payload: Mapping[str, Any], priority: int, then: Then) -> None:
        pool = f"device:{self._device}" if kind in DEVICE_KINDS else "builder"
        try:
            job = self._client.submit_job(kind, pool, payload, campaign=self._campaign,
                                          priority=priority, retry=self._is_new(kind, payload))
        except DroppedError as gone:
            self._rebuild(gone.sha256, then, lambda: self._submit(kind, payload, priority, then))
        else:
            self._await(job, then)

    def _is_new(self, kind: Kind, payload: Mapping[str, Any]) -> bool:
        """Whether it is a preparation that this process has not asked for: what failed before the
        device was mended is tried again, once."""
        key = content_sha256(canonical_json(dict(payload)))
        if kind != "prepare" or key in self._asked:
            return False
        self._asked.add(key)
        return True

    def _rebuild(self, sha256: str, then: Then, go_on: Callable[[], None]) -> None:
        """``go_on`` once the file is there again; ``then`` is handed a failed job if it cannot
        be had any more."""
        def rebuilt(job: Job) -> None:
            if job["state"] == "done" and job["result"]["sha256"] == sha256:
                go_on()
            else:
                why = job.get("message") or job.get("reason") or "the rebuild was withdrawn"
                self._ended.append((then, _not_rebuilt(sha256, why)))

        try:
            self._await(self._client.rebuild(sha256, self._campaign), rebuilt)
        except ProtocolError as error:
            self._ended.append((then, _not_rebuilt(sha256, str(error))))

    def _await(self, job: Job, then: Then) -> None:
        if job["state"] in ENDED:
            self._ended.append((then, job))
        else:
            self._waiting.setdefault(job["job"], []).append(then)

    def listen(self, wait_s: float) -> None:
        """Hand every job that ended to whoever waits for it; waits at most ``wait_s`` for one."""
        answer = self._client.finished(self._campaign, self._sequence,
                                       0.0 if self._ended else wait_s)
        self._sequence = answer["seq"]
        for job in answer["jobs"]:
            for then in self._waiting.pop(job["job"], ()):
                self._ended.append((then, job))
        while self._ended:
            then, job = self._ended.popleft()
            then(job)

    def wait_for(self, kind: Kind, payload: Mapping[str, Any], priority: int) -> Job:
        """Submit and wait: for the few jobs beside which nothing can go on."""
        found: list[Job] = []
        self.submit(kind, payload, priority, found.append)
        while not found:
            self.listen(20.0)
        return found[0]


def _not_rebuilt(sha256: str, why: str) -> Job:
    return {"state": "failed", "result": None, "reason": "not_rebuilt",
            "message": f"The dropped file {sha256} could not be built again: {why}"}


def entry_of(job: Job, sha256: str) -> Mapping[str, Any]:
    """What a measurement job says of one file; a failed job fails each of its files."""
    if job["state"] == "done":
        for entry in job["result"]["measurements"]:
            if entry["sha256"] == sha256:
                return dict(entry)
    return {"verdict": "failed", "reasons": [job.get("message") or job.get("reason")
                                             or "the measurement failed"]}
