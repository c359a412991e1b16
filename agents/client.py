"""The agent: enrol, lease, work, give back; and keep trying while the coordinator is away.

    enrol (once) -> [ send what waits -> lease (long poll) -> fetch files -> measure -> spool ] ...
                                                  heartbeat thread: ttl_s / 4

A result is on disk before it is sent, and sent until it is accepted or refused. ``finish`` ends
the agent after the job at hand, ``abandon`` at once (its lease then runs out).
"""

import logging
import os
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from agents.artifacts import ArtifactCache, ArtifactError
from agents.children import StartChild
from agents.environment import identity
from agents.heartbeat import Heart
from agents.jobs import KINDS, measure_in_environment
from agents.link import Backoff, Link, LinkError, Refused
from agents.protocol import (
    PROTOCOL_VERSION,
    Enrol,
    Enrolled,
    Failure,
    Lease,
    LeaseRequest,
    MeasurePayload,
    ProtocolError,
    ResultEnvelope,
    decode,
    encode,
)
from agents.runner import Cancelled, MeasurementFailed
from agents.spool import ResultSpool, Secret, read_secret, send_result, write_secret
from agents.sysfs import Tree

LOG = logging.getLogger("fleetfront.agent")
POLL_S = 25.0
POLL_GRACE_S = 15.0
SHORT_POLL_S = 0.2


class AgentError(Exception):
    """The agent cannot go on; the text says why and what to do."""


class Settings(NamedTuple):
    """``spool`` is the agent's own folder; ``token`` is needed for the first start only."""

    coordinator: str
    name: str
    spool: str
    token: Optional[str] = None
    cafile: Optional[str] = None
    once: bool = False


class Agent:
    """``capabilities`` are those sent at enrolment; ``finish`` and ``abandon`` may be set from
    another thread or a signal handler (then call ``wake``)."""

    def __init__(self, settings: Settings, capabilities: Dict[str, Any], start_child: StartChild,
                 tree: Optional[Tree] = None, clock: Callable[[], float] = time.monotonic,
                 wait: Optional[Callable[[float], object]] = None,
                 backoff: Optional[Backoff] = None) -> None:
        self._settings = settings
        self._capabilities = capabilities
        self._start_child = start_child
        self._tree = tree or Tree()
        self._clock = clock
        self.finish = threading.Event()
        self.abandon = threading.Event()
        self._wait = wait or self.finish.wait
        self._backoff = backoff or Backoff()
        self._link = Link(settings.coordinator, None, settings.cafile)
        self._cache = ArtifactCache(os.path.join(settings.spool, "artifacts"))
        self._results: Optional[ResultSpool] = None
        self._working = False

    def run(self) -> int:
        """Until ``finish``, or one job with ``once``. Returns jobs done. Raises AgentError."""
        try:
            done = self._serve()
            self._send_last()
        finally:
            self._link.close()
        return done

    def _serve(self) -> int:
        done = 0
        while not self.finish.is_set():
            try:
                results = self._enrolled()
                self._send(results)
                if done and self._settings.once:
                    break
                lease = self._lease()
                self._backoff.reset()
            except LinkError as error:
                self._pause("no answer from {}".format(self._settings.coordinator), error)
                continue
            except Refused as refusal:
                self._refused(refusal)
                continue
            if lease is not None:
                self._work(lease, results)
                done += 1
        return done

    def wake(self) -> None:
        """Ends a long poll, so that ``finish`` is seen. A job at hand keeps its link."""
        if not self._working:
            self._link.abort()

    def _enrolled(self) -> ResultSpool:
        if self._results is not None:
            return self._results
        kept = read_secret(self._settings.spool)
        known = kept is not None and (
            self._settings.token is None or kept.url == self._settings.coordinator)
        if kept is None or not known:
            kept = self._enrol()
        self._link.secret = kept.secret
        self._results = ResultSpool(self._settings.spool, kept.secret)
        return self._results

    def _enrol(self) -> Secret:
        token = self._settings.token
        if token is None:
            raise AgentError(
                "This agent is not enrolled at {}: get a token there with `fleetfront device enrol "
                "{}` and start the agent with --token or --token-file.".format(
                    self._settings.coordinator, self._settings.name))
        message = Enrol(PROTOCOL_VERSION, token, self._settings.name, identity(self._tree),
                        self._capabilities)
        self._link.secret = None
        try:
            answer = self._link.request("POST", "/v1/agents", encode(message))
            enrolled = decode(Enrolled, answer.body)
        except Refused as refusal:
            raise AgentError("{} does not enrol {!r} (HTTP {}): {}".format(
                self._settings.coordinator, self._settings.name, refusal.status,
                refusal)) from refusal
        except ProtocolError as error:
            raise AgentError("{} is no fleetfront coordinator: {}".format(
                self._settings.coordinator, error)) from error
        secret = Secret(self._settings.coordinator, self._settings.name, enrolled.agent,
                        enrolled.secret)
        write_secret(self._settings.spool, secret)
        LOG.info("enrolled as %s", enrolled.agent)
        return secret

    def _lease(self) -> Optional[Lease]:
        asked = self._clock()
        answer = self._link.request(
            "POST", "/v1/lease", encode(LeaseRequest(PROTOCOL_VERSION, POLL_S)),
            timeout_s=POLL_S + POLL_GRACE_S)
        if answer.status == 204:
            if self._clock() - asked < SHORT_POLL_S:
                self._wait(SHORT_POLL_S)  # a coordinator that does not hold the poll
            return None
        try:
            return decode(Lease, answer.body)
        except ProtocolError as error:
            raise LinkError("a lease that cannot be read: {}".format(error)) from error

    def _refused(self, refusal: Refused) -> None:
        """426 ends the agent; a secret that is not known any more is exchanged for a new one."""
        if refusal.status == 426:
            raise AgentError(str(refusal)) from refusal
        if refusal.status == 401:
            if self._settings.token is None or self._results is None:
                raise AgentError(
                    "{} does not know this agent any more ({}): enrol it anew with --token.".format(
                        self._settings.coordinator, refusal)) from refusal
            self._results = None
            secret = self._enrol_anew()
            self._link.secret = secret.secret
            self._results = ResultSpool(self._settings.spool, secret.secret)
            return
        self._pause("refused with HTTP {}".format(refusal.status), refusal)

    def _enrol_anew(self) -> Secret:
        while True:
            try:
                return self._enrol()
            except LinkError as error:
                if self.finish.is_set():
                    raise AgentError("stopped while enrolling") from error
                self._pause("no answer from {}".format(self._settings.coordinator), error)

    def _pause(self, what: str, error: BaseException) -> None:
        delay_s = self._backoff.next_s()
        if not self.finish.is_set():
            LOG.warning("%s (%s); next try in %.1f s", what, error, delay_s)
            self._wait(delay_s)

    def _send(self, results: ResultSpool) -> None:
        for refusal in results.send_all(self._link):
            LOG.warning("not accepted: %s", refusal)

    def _send_last(self) -> None:
        if self._results is None or not self._results.waiting():
            return
        link = self._new_link()
        try:
            for refusal in self._results.send_all(link):
                LOG.warning("not accepted: %s", refusal)
        except (LinkError, Refused) as error:
            LOG.warning("results wait in %s for the next start: %s", self._settings.spool, error)
        finally:
            link.close()

    def _new_link(self) -> Link:
        return Link(self._settings.coordinator, self._link.secret, self._settings.cafile)

    def _work(self, lease: Lease, results: ResultSpool) -> None:
        LOG.info("job %d (%s), attempt %d", lease.job, lease.kind, lease.attempt)
        self._working = True
        heart = Heart(self._new_link(), lease)
        heart.start()
        try:
            envelope = _Work(self, lease, heart).envelope()
        finally:
            heart.stop()
            self._working = False
        if envelope is None or heart.stopped == "stale":
            LOG.info("job %d: nothing to send (%s)", lease.job, heart.stopped or "abandoned")
            return
        LOG.info("job %d: %s", lease.job, envelope.state)
        try:
            results.put(lease, envelope)
        except OSError as error:
            LOG.warning("the result cannot be kept in %s (%s)", self._settings.spool, error)
            try:
                send_result(self._link, lease.job, lease.attempt, lease.fence, encode(envelope))
            except (LinkError, Refused) as lost:
                LOG.warning("the result of job %d is lost (%s): it will be leased again",
                            lease.job, lost)

    def fetch(self, payload: MeasurePayload, stop: Callable[[], bool]) -> Dict[str, str]:
        """Local files by sha256, downloaded before anything is timed. Raises Cancelled,
        ArtifactError."""
        paths: Dict[str, str] = {}
        backoff = Backoff()
        for ref in [payload.reference, *payload.candidates]:
            while ref.sha256 not in paths:
                if stop():
                    raise Cancelled()
                try:
                    paths[ref.sha256] = self._cache.path(ref, self._link)
                except LinkError as error:
                    LOG.warning("artifact %s: %s", ref.sha256[:12], error)
                    self.abandon.wait(backoff.next_s())
        self._cache.trim(list(paths))
        return paths

    def measured(self, payload: MeasurePayload, paths: Dict[str, str], stop: Callable[[], bool],
                 heart: Heart) -> Dict[str, Any]:
        def progress(share_done: float) -> None:
            heart.progress = share_done

        return measure_in_environment(payload, paths, self._start_child, stop, progress,
                                      self._tree, self._clock)

    @property
    def runtimes(self) -> List[str]:
        return sorted(self._capabilities.get("runtimes", {}))

    def now_s(self) -> float:
        return self._clock()


class _Work:
    """One lease from its payload to its envelope; every failure becomes a reason."""

    def __init__(self, agent: Agent, lease: Lease, heart: Heart) -> None:
        self._agent = agent
        self._lease = lease
        self._heart = heart
        self._until = agent.now_s() + lease.deadline_s

    def envelope(self) -> Optional[ResultEnvelope]:
        """None when nobody wants the result."""
        try:
            return ResultEnvelope("done", self._result())
        except Cancelled:
            if self._heart.stopped == "cancel":
                return _failed("cancelled", "The coordinator cancelled the job.")
            if self._heart.stopped is not None or not self._late():
                return None
            return _failed("deadline", "The job took longer than its {:g} s.".format(
                self._lease.deadline_s))
        except (MeasurementFailed, ArtifactError) as error:
            return _failed(error.reason, str(error))
        except ProtocolError as error:
            return _failed("payload", str(error))
        except Exception as error:
            LOG.exception("job %d", self._lease.job)
            return _failed("defect", "{}: {}".format(type(error).__name__, error))

    def _result(self) -> Dict[str, Any]:
        if self._lease.kind not in KINDS:
            return self._refuse("kind", "kind", self._lease.kind, list(KINDS))
        payload = decode(MeasurePayload, self._lease.payload)
        if payload.runtime not in self._agent.runtimes:
            return self._refuse("runtime", "runtime", payload.runtime, self._agent.runtimes)
        paths = self._agent.fetch(payload, self._stop)
        return self._agent.measured(payload, paths, self._stop, self._heart)

    def _refuse(self, reason: str, what: str, value: str, known: List[str]) -> Dict[str, Any]:
        raise MeasurementFailed(reason, "This agent has no {} {!r}; it has {}.".format(
            what, value, ", ".join(known) or "none"))

    def _late(self) -> bool:
        return self._agent.now_s() > self._until

    def _stop(self) -> bool:
        return (self._heart.stopped is not None or self._agent.abandon.is_set() or self._late())


def _failed(reason: str, message: str) -> ResultEnvelope:
    return ResultEnvelope("failed", dict(Failure(reason, message)._asdict()))
