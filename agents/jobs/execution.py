"""Executes one leased job, from its payload to the result. Every failure becomes a reason.

    leased            transfer_s           files present          deadline_s
      |--------------------------------------->|------------------------------------->|
      phase "transfer": fraction of the bytes   phase "device": fraction of the steps
"""

import logging
import threading
import time
from typing import Callable, Dict, NamedTuple, Optional, Sequence

from agents.child.request import ChildRequest
from agents.coordinator.artifacts import ArtifactCache, ArtifactError
from agents.coordinator.heartbeat import HeartbeatSender
from agents.coordinator.http import TIMEOUT_S, Backoff, CoordinatorUnavailable, HttpClient
from agents.jobs.base import JobContext
from agents.jobs.catalog import KINDS
from agents.measurement.child_process import Child, StartChild
from agents.measurement.supervision import JobCancelled, JobFailed
from agents.platform.files import NO_SPACE
from agents.platform.sysfs import SystemTree
from agents.protocol import (
    ArtifactRef,
    Failure,
    JsonObject,
    Lease,
    ProtocolError,
    ResultEnvelope,
)

LOG = logging.getLogger("fleetfront.agent")
SHORTEST_TIMEOUT_S = 0.05


class AgentResources(NamedTuple):
    """What an agent provides to its jobs. ``abandon`` ends the current job, ``wait`` sleeps for
    some seconds, ``prepared`` is the folder for what runtimes prepare."""

    cache: ArtifactCache
    start_child: StartChild
    runtimes: Sequence[str]
    tree: SystemTree
    abandon: threading.Event
    wait: Callable[[float], object]
    clock: Callable[[], float] = time.monotonic
    prepared: Optional[str] = None


class FileTransfer:
    """The progress of a job's downloads; ``stored[sha256]`` counts the bytes stored so far."""

    def __init__(self, refs: Sequence[ArtifactRef]) -> None:
        self.refs = {ref.sha256: ref for ref in refs}
        self.stored = dict.fromkeys(self.refs, 0)
        self.current: Optional[str] = None

    def fraction(self) -> float:
        """The stored fraction of all bytes, 0 to 1."""
        total = sum(ref.size_bytes for ref in self.refs.values())
        return min(sum(self.stored.values()) / total, 1.0) if total else 0.0

    def __str__(self) -> str:
        text = "{} of {} bytes have arrived".format(
            sum(self.stored.values()), sum(ref.size_bytes for ref in self.refs.values()))
        if self.current is None:
            return text
        return "{}, the file {} has {} of its {} bytes".format(
            text, self.current, self.stored[self.current], self.refs[self.current].size_bytes)


class JobExecution:
    """Executes one lease. ``client`` downloads the files; ``heartbeat`` reports the progress and
    says when to stop."""

    def __init__(self, resources: AgentResources, client: HttpClient, lease: Lease,
                 heartbeat: HeartbeatSender) -> None:
        self._resources = resources
        self._client = client
        self._lease = lease
        self._heartbeat = heartbeat
        self._until_s = resources.clock() + (lease.transfer_s or lease.deadline_s)
        self._transfer: Optional[FileTransfer] = None

    def envelope(self) -> Optional[ResultEnvelope]:
        """The result to send; None if the lease has expired or the agent is ending."""
        try:
            return ResultEnvelope("done", self._result())
        except JobCancelled:
            if self._heartbeat.stopped == "cancel":
                return _failed("cancelled", "The coordinator cancelled the job.")
            if self._heartbeat.stopped is not None or self._left_s() > 0:
                return None
            return self._timed_out()
        except (JobFailed, ArtifactError) as error:
            return _failed(error.reason, str(error))
        except ProtocolError as error:
            return _failed("payload", str(error))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                return _failed("disk", "The device's disk is full: {}".format(error))
            LOG.exception("job %d", self._lease.job)
            return _failed("defect", "{}: {}".format(type(error).__name__, error))

    def _result(self) -> JsonObject:
        kind = KINDS.get(self._lease.kind)
        if kind is None:
            return self._refuse("kind", self._lease.kind, list(KINDS))
        job = kind.parse(self._lease.payload)
        if job.runtime not in self._resources.runtimes:
            return self._refuse("runtime", job.runtime, self._resources.runtimes)
        paths = self._downloaded(job.files)
        self._heartbeat.phase = "device"
        self._progress(0.0)
        return job.run(JobContext(
            paths, self._start_child, self._resources.tree, self._should_stop, self._progress,
            self._resources.clock, self._resources.wait))

    def _start_child(self, runtime: str, request: ChildRequest) -> Child:
        return self._resources.start_child(
            runtime, request._replace(folder=self._resources.prepared))

    def _refuse(self, what: str, value: str, known: Sequence[str]) -> JsonObject:
        raise JobFailed(what, "This agent has no {} {!r}; it has {}.".format(
            what, value, ", ".join(known) or "none"))

    def _downloaded(self, refs: Sequence[ArtifactRef]) -> Dict[str, str]:
        """Paths of all files by sha256, which are present before the job begins. Raises
        JobCancelled and ArtifactError."""
        self._transfer = transfer = FileTransfer(refs)
        self._heartbeat.phase = "transfer"
        paths = {}
        for sha256 in transfer.refs:
            transfer.current = sha256
            paths[sha256] = self._file(transfer, sha256)
            transfer.stored[sha256] = transfer.refs[sha256].size_bytes
        self._resources.cache.trim(list(paths))
        if self._lease.transfer_s:
            self._transfer = None
            self._until_s = self._resources.clock() + self._lease.deadline_s
        return paths

    def _file(self, transfer: FileTransfer, sha256: str) -> str:
        def arrived(size_bytes: int) -> None:
            transfer.stored[sha256] = size_bytes
            self._progress(transfer.fraction())
            if self._should_stop():
                raise JobCancelled()

        backoff = Backoff()
        while not self._should_stop():
            try:
                return self._resources.cache.path(
                    transfer.refs[sha256], self._client, arrived,
                    min(TIMEOUT_S, max(self._left_s(), SHORTEST_TIMEOUT_S)))
            except CoordinatorUnavailable as error:
                LOG.warning("artifact %s: %s", sha256[:12], error)
                self._resources.wait(min(backoff.next_s(), max(self._left_s(), 0.0)))
        raise JobCancelled()

    def _progress(self, fraction_done: float) -> None:
        self._heartbeat.progress = fraction_done

    def _left_s(self) -> float:
        return self._until_s - self._resources.clock()

    def _should_stop(self) -> bool:
        return (self._heartbeat.stopped is not None or self._resources.abandon.is_set()
                or self._left_s() <= 0)

    def _timed_out(self) -> ResultEnvelope:
        if self._lease.transfer_s and self._transfer is not None:
            return _failed("transfer_timeout", "The files had not arrived after {:g} s: {}.".format(
                self._lease.transfer_s, self._transfer))
        return _failed("deadline", "The job took longer than its {:g} s.".format(
            self._lease.deadline_s))


def _failed(reason: str, message: str) -> ResultEnvelope:
    return ResultEnvelope("failed", dict(Failure(reason, message)._asdict()))
