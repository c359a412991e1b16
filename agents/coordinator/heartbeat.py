"""Heartbeats of a running job: they keep its lease, report progress and receive cancellation."""

import threading
from typing import Optional

from agents.coordinator.http import CoordinatorUnavailable, HttpClient, RequestRefused
from agents.protocol import Heartbeat, HeartbeatAnswer, Lease, ProtocolError, decode, encode

HEARTBEATS_PER_TTL = 4
TIMEOUT_S = 10.0


class HeartbeatSender:
    """Sends the heartbeats of one lease from a thread, with an HTTP client of its own.

    ``stopped`` is None while the job is to go on, ``cancel`` if the coordinator cancelled it, or
    ``stale`` if the lease has expired. The next heartbeat reports ``phase`` and ``progress``.
    """

    def __init__(self, client: HttpClient, lease: Lease) -> None:
        self._client = client
        self._lease = lease
        self._end = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self.phase = ""
        self.progress = 0.0
        self.stopped: Optional[str] = None

    def send(self) -> None:
        """Sends one heartbeat. If the coordinator is unavailable the job goes on: the fence decides
        whether its result counts."""
        message = Heartbeat(self._lease.job, self._lease.fence, self.progress, self.phase)
        try:
            answer = self._client.request("POST", "/v1/heartbeat", encode(message),
                                        timeout_s=min(TIMEOUT_S, self._lease.ttl_s))
            if decode(HeartbeatAnswer, answer.body).verdict == "cancel":
                self.stopped = "cancel"
        except RequestRefused as refusal:
            if refusal.status in (404, 409, 410):
                self.stopped = "stale"
        except (CoordinatorUnavailable, ProtocolError):
            pass

    def start(self) -> None:
        self._thread = threading.Thread(target=self._send_periodically, name="heartbeat",
                                        daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._client.abort()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S)
        self._client.close()

    def _send_periodically(self) -> None:
        while self.stopped is None and not self._end.wait(self._lease.ttl_s / HEARTBEATS_PER_TTL):
            self.send()
