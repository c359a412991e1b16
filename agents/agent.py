"""The agent: enrol, lease, work, give back; and keep trying while the coordinator is away.

    enrol (once) -> [ send what waits -> update? -> lease (long poll) -> work -> spool ] ...
                                                       heartbeat thread: ttl_s / 4

A result is on disk before it is sent, and sent until it is accepted or refused. ``finish`` ends
the agent after the job at hand, ``abandon`` at once (its lease then runs out). What an agent that
waits does not need is imported where it is used.
"""

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from agents.coordinator.http import Backoff, CertificateRefused, Link, LinkError, Refused
from agents.coordinator.settings import AgentError, Settings
from agents.coordinator.spool import ResultSpool, Secret, read_secret, send_result, write_secret
from agents.coordinator.update import OwnFile, UpdateFailed
from agents.platform.sysfs import Tree
from agents.protocol import (
    DEVICE_KINDS,
    PROTOCOL_VERSION,
    Lease,
    LeaseRequest,
    ProtocolError,
    ResultEnvelope,
    decode,
    encode,
)

if TYPE_CHECKING:
    from agents.measurement.child_process import StartChild
    from agents.measurement.spare_child import Spare

LOG = logging.getLogger("fleetfront.agent")
POLL_S = 25.0
POLL_GRACE_S = 15.0
SHORT_POLL_S = 0.2


class Agent:
    """``capabilities`` finds what is told at enrolment; ``connect`` gives links. ``finish`` and
    ``abandon`` may be set from another thread or a signal handler (then call ``wake``)."""

    def __init__(self, settings: Settings, capabilities: Callable[[], Dict[str, Any]],
                 start_child: "StartChild", tree: Optional[Tree] = None,
                 clock: Callable[[], float] = time.monotonic,
                 wait: Optional[Callable[[float], object]] = None,
                 backoff: Optional[Backoff] = None, own_file: Optional[OwnFile] = None,
                 connect: Callable[..., Link] = Link, spare: Optional["Spare"] = None) -> None:
        self._capabilities = capabilities
        self._start_child = start_child
        self._spare = spare
        self._tree = tree or Tree()
        self._clock = clock
        self.finish = threading.Event()
        self.abandon = threading.Event()
        self._wait = wait or self.finish.wait
        self._wait_in_job = wait or self.abandon.wait
        self._backoff = backoff or Backoff()
        self._own_file = own_file or OwnFile(None)
        self._kept = read_secret(settings.spool)
        self._settings = settings = _with_kept_fingerprint(settings, self._kept)
        self._connect = connect
        self._link = connect(settings.coordinator, None, settings.trust)
        self._results: Optional[ResultSpool] = None
        self._working = False

    def run(self) -> int:
        """Until ``finish``, or one job with ``once``. Returns jobs done. Raises AgentError, and
        Updated when the program should start anew from its file."""
        try:
            done = self._serve()
            self._send_last()
        except OSError as error:
            raise AgentError(
                "The spool {} cannot be used ({}): mend its disk or its permissions, or give "
                "another folder with --spool.".format(self._settings.spool, error)) from error
        finally:
            self._link.close()
            if self._spare is not None:
                self._spare.close()
        return done

    def wake(self) -> None:
        """Ends a long poll, so that ``finish`` is seen. A job at hand keeps its link."""
        if not self._working:
            self._link.abort()

    def _serve(self) -> int:
        done = 0
        while not self.finish.is_set():
            try:
                results = self._enrolled()
                self._send(results)
                if done and self._settings.once:
                    break
                self._update()
                if self._spare is not None:
                    self._spare.ready()
                lease = self._lease()
                self._backoff.reset()
            except CertificateRefused as error:
                self._pause("not connected", error)
                continue
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

    def _enrolled(self) -> ResultSpool:
        if self._results is None:
            kept = self._kept
            if kept is None or _is_elsewhere(self._settings, kept):
                kept = self._enrol()
            elif kept.fingerprint != (self._settings.trust.fingerprint or ""):
                kept = kept._replace(fingerprint=self._settings.trust.fingerprint or "")
                write_secret(self._settings.spool, kept)
            self._kept = kept
            self._link.secret = kept.secret
            self._results = ResultSpool(self._settings.spool, kept.secret)
        return self._results

    def _enrol(self) -> Secret:
        from agents.coordinator.enrolment import enrol

        capabilities = self._capabilities() if self._settings.token is not None else {}
        secret = enrol(self._settings, self._link, capabilities, self._tree)
        LOG.info("enrolled as %s", secret.agent)
        return secret

    def _lease(self) -> Optional[Lease]:
        asked = self._clock()
        answer = self._link.request(
            "POST", "/v1/lease",
            encode(LeaseRequest(PROTOCOL_VERSION, POLL_S, list(DEVICE_KINDS))),
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
        """426 ends the agent unless it can update itself; a secret that is not known any more is
        exchanged for a new one."""
        if refusal.status == 426:
            self._outdated(refusal)
        elif refusal.status == 401:
            if self._settings.token is None or self._results is None:
                raise AgentError(
                    "{} does not know this agent any more ({}): enrol it anew with --token.".format(
                        self._settings.coordinator, refusal)) from refusal
            self._kept = self._results = None
        else:
            self._pause("refused with HTTP {}".format(refusal.status), refusal)

    def _update(self) -> None:
        """Between two jobs. Raises Updated and LinkError."""
        offered = self._link.offered_sha256
        if offered is not None and self._own_file.differs(offered):
            try:
                self._own_file.update(offered, self._link)
            except UpdateFailed as error:
                LOG.warning("not updated, going on with the old version: %s", error)

    def _outdated(self, refusal: Refused) -> None:
        """Raises Updated and AgentError."""
        offered, why = self._link.offered_sha256, ""
        if offered is not None and self._own_file.differs(offered):
            try:
                self._own_file.update(offered, self._link)
            except LinkError as error:
                self._pause("the coordinator's agent.pyz cannot be had", error)
                return
            except UpdateFailed as error:
                why = " It did not update itself: {}".format(error)
        raise AgentError(
            "{} Coordinator: protocol {}; this agent: protocol {}, {}.{} Download {}/agent.pyz to "
            "this device and start that file, with the same arguments.".format(
                refusal, "unknown" if refusal.server is None else refusal.server, PROTOCOL_VERSION,
                self._own_file, why, self._settings.coordinator)) from refusal

    def _pause(self, what: str, error: BaseException) -> None:
        delay_s = self._backoff.next_s()
        if self._spare is not None:
            self._spare.close()  # who knows when there will be a job again
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
        return self._connect(self._settings.coordinator, self._link.secret, self._settings.trust)

    def _work(self, lease: Lease, results: ResultSpool) -> None:
        from agents.coordinator.artifacts import ArtifactCache
        from agents.coordinator.heartbeat import Heart
        from agents.jobs.execution import Work, Workplace

        LOG.info("job %d (%s), attempt %d", lease.job, lease.kind, lease.attempt)
        self._working = True
        heart = Heart(self._new_link(), lease)
        place = Workplace(ArtifactCache(os.path.join(self._settings.spool, "artifacts")),
                          self._start_child, self._settings.runtimes, self._tree,
                          self.abandon, self._wait_in_job, self._clock,
                          os.path.join(self._settings.spool, "engines"))
        work = Work(place, self._link, lease, heart)
        heart.start()
        try:
            envelope = work.envelope()
        finally:
            heart.stop()
            self._working = False
        if envelope is None or heart.stopped == "stale":
            LOG.info("job %d: nothing to send (%s)", lease.job, heart.stopped or "abandoned")
            return
        LOG.info("job %d: %s", lease.job, envelope.state)
        self._keep(lease, envelope, results)

    def _keep(self, lease: Lease, envelope: ResultEnvelope, results: ResultSpool) -> None:
        try:
            results.put(lease, envelope)
        except OSError as error:
            LOG.warning("the result cannot be kept in %s (%s)", self._settings.spool, error)
            try:
                send_result(self._link, lease.job, lease.attempt, lease.fence, encode(envelope))
            except (LinkError, Refused) as lost:
                LOG.warning("the result of job %d is lost (%s): it will be leased again",
                            lease.job, lost)


def _with_kept_fingerprint(settings: Settings, kept: Optional[Secret]) -> Settings:
    """A certificate pinned once stays pinned as long as its coordinator's secret is used. Raises
    AgentError rather than let that secret out in clear."""
    if kept is None or not kept.fingerprint or _is_elsewhere(settings, kept):
        return settings
    if not settings.coordinator.startswith("https:"):
        raise AgentError(
            "This agent was enrolled at {} with a pinned certificate, and {} would carry its "
            "secret in clear: use https, or enrol it anew with --token.".format(
                kept.url, settings.coordinator))
    if settings.trust.fingerprint is not None:
        return settings
    return settings._replace(trust=settings.trust._replace(fingerprint=kept.fingerprint))


def _is_elsewhere(settings: Settings, kept: Secret) -> bool:
    """Whether the token is for another coordinator than the one whose secret is kept."""
    return settings.token is not None and kept.url != settings.coordinator
