"""The agent's main loop: enrol, lease a job, execute it, send the result; retry after failures.

    enrol (once) -> [ send spooled results -> update? -> lease (long poll) -> execute -> spool ] ...
                                                    heartbeat thread, every ttl_s / 4

A result is written to disk before it is sent, and is sent until the coordinator accepts or refuses
it. ``finish`` ends the agent after the current job, ``abandon`` at once, so that its lease expires.
Modules that an idle agent does not need are imported inside functions.
"""

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Callable, Optional

from agents.coordinator.http import (
    Backoff,
    CertificateRejected,
    CoordinatorUnavailable,
    HttpClient,
    RequestRefused,
)
from agents.coordinator.settings import AgentError, AgentSettings
from agents.coordinator.spool import ResultSpool, Secret, read_secret, send_result, write_secret
from agents.coordinator.update import AgentFile, UpdateFailed
from agents.platform.sysfs import SystemTree
from agents.protocol import (
    DEVICE_KINDS,
    PROTOCOL_VERSION,
    JsonObject,
    Lease,
    LeaseRequest,
    ProtocolError,
    ResultEnvelope,
    decode,
    encode,
)

if TYPE_CHECKING:
    from agents.measurement.child_process import StartChild
    from agents.measurement.spare_child import SpareChild

LOG = logging.getLogger("fleetfront.agent")
POLL_S = 25.0
POLL_GRACE_S = 15.0
SHORT_POLL_S = 0.2


class Agent:
    """One agent.

    ``capabilities`` returns what the agent reports when it enrols, ``connect`` creates HTTP
    clients. ``finish`` and ``abandon`` may be set from another thread or a signal handler; call
    ``wake`` then.
    """

    def __init__(self, settings: AgentSettings, capabilities: Callable[[], JsonObject],
                 start_child: "StartChild", tree: Optional[SystemTree] = None,
                 clock: Callable[[], float] = time.monotonic,
                 wait: Optional[Callable[[float], object]] = None,
                 backoff: Optional[Backoff] = None, agent_file: Optional[AgentFile] = None,
                 connect: Callable[..., HttpClient] = HttpClient,
                 spare: Optional["SpareChild"] = None) -> None:
        self._capabilities = capabilities
        self._start_child = start_child
        self._spare = spare
        self._tree = tree or SystemTree()
        self._clock = clock
        self.finish = threading.Event()
        self.abandon = threading.Event()
        self._wait = wait or self.finish.wait
        self._wait_in_job = wait or self.abandon.wait
        self._backoff = backoff or Backoff()
        self._agent_file = agent_file or AgentFile(None)
        self._kept = read_secret(settings.spool)
        self._settings = settings = _with_kept_fingerprint(settings, self._kept)
        self._connect = connect
        self._client = connect(settings.coordinator, None, settings.trust)
        self._results: Optional[ResultSpool] = None
        self._executing = False

    def run(self) -> int:
        """Runs until ``finish`` is set, or for one job with ``once``. Returns the number of jobs.

        Raises AgentError, and Updated when the program must be restarted from its new file.
        """
        try:
            done = self._serve()
            self._send_last()
        except OSError as error:
            raise AgentError(
                "The spool {} cannot be used ({}): repair its disk or its permissions, or give "
                "another folder with --spool.".format(self._settings.spool, error)) from error
        finally:
            self._client.close()
            if self._spare is not None:
                self._spare.close()
        return done

    def wake(self) -> None:
        """Ends a long poll, so that ``finish`` takes effect. A running job keeps its connection."""
        if not self._executing:
            self._client.abort()

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
                    self._spare.ensure_waiting()
                lease = self._lease()
                self._backoff.reset()
            except CertificateRejected as error:
                self._pause("not connected", error)
                continue
            except CoordinatorUnavailable as error:
                self._pause("no answer from {}".format(self._settings.coordinator), error)
                continue
            except RequestRefused as refusal:
                self._handle_refusal(refusal)
                continue
            if lease is not None:
                self._execute(lease, results)
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
            self._client.secret = kept.secret
            self._results = ResultSpool(self._settings.spool, kept.secret)
        return self._results

    def _enrol(self) -> Secret:
        from agents.coordinator.enrolment import enrol

        capabilities = self._capabilities() if self._settings.token is not None else {}
        secret = enrol(self._settings, self._client, capabilities, self._tree)
        LOG.info("enrolled as %s", secret.agent)
        return secret

    def _lease(self) -> Optional[Lease]:
        asked = self._clock()
        answer = self._client.request(
            "POST", "/v1/lease",
            encode(LeaseRequest(PROTOCOL_VERSION, POLL_S, list(DEVICE_KINDS))),
            timeout_s=POLL_S + POLL_GRACE_S)
        if answer.status == 204:
            if self._clock() - asked < SHORT_POLL_S:
                self._wait(SHORT_POLL_S)  # the coordinator does not hold long polls
            return None
        try:
            return decode(Lease, answer.body)
        except ProtocolError as error:
            raise CoordinatorUnavailable("the lease is malformed: {}".format(error)) from error

    def _handle_refusal(self, refusal: RequestRefused) -> None:
        """Handles HTTP 426 by an update, and 401 by enrolling again with the token. Raises
        AgentError where neither is possible, and Updated."""
        if refusal.status == 426:
            self._update_or_fail(refusal)
        elif refusal.status == 401:
            if self._settings.token is None or self._results is None:
                raise AgentError(
                    "{} no longer knows this agent ({}): enrol it again with --token.".format(
                        self._settings.coordinator, refusal)) from refusal
            self._kept = self._results = None
        else:
            self._pause("refused with HTTP {}".format(refusal.status), refusal)

    def _update(self) -> None:
        """Replaces the agent's file if the coordinator serves another one. Raises Updated and
        CoordinatorUnavailable."""
        offered = self._client.offered_sha256
        if offered is not None and self._agent_file.differs(offered):
            try:
                self._agent_file.update(offered, self._client)
            except UpdateFailed as error:
                LOG.warning("not updated, continuing with the old version: %s", error)

    def _update_or_fail(self, refusal: RequestRefused) -> None:
        """Updates an agent whose protocol version is refused. Raises Updated and AgentError."""
        offered, why = self._client.offered_sha256, ""
        if offered is not None and self._agent_file.differs(offered):
            try:
                self._agent_file.update(offered, self._client)
            except CoordinatorUnavailable as error:
                self._pause("the coordinator's agent.pyz cannot be downloaded", error)
                return
            except UpdateFailed as error:
                why = " It did not update itself: {}".format(error)
        raise AgentError(
            "{} Coordinator: protocol {}; this agent: protocol {}, {}.{} Download {}/agent.pyz to "
            "this device and start that file, with the same arguments.".format(
                refusal, "unknown" if refusal.server is None else refusal.server, PROTOCOL_VERSION,
                self._agent_file, why, self._settings.coordinator)) from refusal

    def _pause(self, what: str, error: BaseException) -> None:
        delay_s = self._backoff.next_s()
        if self._spare is not None:
            self._spare.close()  # the next job may be hours away
        if not self.finish.is_set():
            LOG.warning("%s (%s); next try in %.1f s", what, error, delay_s)
            self._wait(delay_s)

    def _send(self, results: ResultSpool) -> None:
        for refusal in results.send_all(self._client):
            LOG.warning("result refused: %s", refusal)

    def _send_last(self) -> None:
        if self._results is None or not self._results.waiting():
            return
        client = self._new_client()
        try:
            for refusal in self._results.send_all(client):
                LOG.warning("result refused: %s", refusal)
        except (CoordinatorUnavailable, RequestRefused) as error:
            LOG.warning("unsent results stay in %s until the next start: %s", self._settings.spool,
                        error)
        finally:
            client.close()

    def _new_client(self) -> HttpClient:
        return self._connect(self._settings.coordinator, self._client.secret, self._settings.trust)

    def _execute(self, lease: Lease, results: ResultSpool) -> None:
        from agents.coordinator.artifacts import ArtifactCache
        from agents.coordinator.heartbeat import HeartbeatSender
        from agents.jobs.execution import AgentResources, JobExecution

        LOG.info("job %d (%s), attempt %d", lease.job, lease.kind, lease.attempt)
        self._executing = True
        heartbeat = HeartbeatSender(self._new_client(), lease)
        place = AgentResources(ArtifactCache(os.path.join(self._settings.spool, "artifacts")),
                          self._start_child, self._settings.runtimes, self._tree,
                          self.abandon, self._wait_in_job, self._clock,
                          os.path.join(self._settings.spool, "engines"))
        execution = JobExecution(place, self._client, lease, heartbeat)
        heartbeat.start()
        try:
            envelope = execution.envelope()
        finally:
            heartbeat.stop()
            self._executing = False
        if envelope is None or heartbeat.stopped == "stale":
            LOG.info("job %d: nothing to send (%s)", lease.job, heartbeat.stopped or "abandoned")
            return
        LOG.info("job %d: %s", lease.job, envelope.state)
        self._keep(lease, envelope, results)

    def _keep(self, lease: Lease, envelope: ResultEnvelope, results: ResultSpool) -> None:
        try:
            results.put(lease, envelope)
        except OSError as error:
            LOG.warning("the result cannot be kept in %s (%s)", self._settings.spool, error)
            try:
                send_result(self._client, lease.job, lease.attempt, lease.fence, encode(envelope))
            except (CoordinatorUnavailable, RequestRefused) as lost:
                LOG.warning("the result of job %d is lost (%s): it will be leased again",
                            lease.job, lost)


def _with_kept_fingerprint(settings: AgentSettings, kept: Optional[Secret]) -> AgentSettings:
    """The settings with the fingerprint that was pinned at enrolment. Raises AgentError for an
    ``http`` URL, where the secret would be sent unencrypted."""
    if kept is None or not kept.fingerprint or _is_elsewhere(settings, kept):
        return settings
    if not settings.coordinator.startswith("https:"):
        raise AgentError(
            "This agent was enrolled at {} with a pinned certificate, and {} would send its "
            "secret unencrypted: use https, or enrol it again with --token.".format(
                kept.url, settings.coordinator))
    if settings.trust.fingerprint is not None:
        return settings
    return settings._replace(trust=settings.trust._replace(fingerprint=kept.fingerprint))


def _is_elsewhere(settings: AgentSettings, kept: Secret) -> bool:
    """Whether the token is for another coordinator than the stored secret."""
    return settings.token is not None and kept.url != settings.coordinator
