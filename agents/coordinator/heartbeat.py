"""Heartbeats while a job runs: they prove life, carry progress and bring cancellation."""

import threading
from typing import Optional

from agents.coordinator.http import Link, LinkError, Refused
from agents.protocol import Heartbeat, HeartbeatAnswer, Lease, ProtocolError, decode, encode

BEATS_PER_TTL = 4
TIMEOUT_S = 10.0


class Heart:
    """Beats for one lease over a link of its own. ``stopped`` is None, ``cancel`` (the coordinator
    wants the job no more) or ``stale`` (the lease is not ours any more): both mean, stop.
    ``phase`` and ``progress`` are what the next beat tells."""

    def __init__(self, link: Link, lease: Lease) -> None:
        self._link = link
        self._lease = lease
        self._end = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self.phase = ""
        self.progress = 0.0
        self.stopped: Optional[str] = None

    def beat(self) -> None:
        """One heartbeat. A coordinator that is away changes nothing: the fence will decide."""
        message = Heartbeat(self._lease.job, self._lease.fence, self.progress, self.phase)
        try:
            answer = self._link.request("POST", "/v1/heartbeat", encode(message),
                                        timeout_s=min(TIMEOUT_S, self._lease.ttl_s))
            if decode(HeartbeatAnswer, answer.body).verdict == "cancel":
                self.stopped = "cancel"
        except Refused as refusal:
            if refusal.status in (404, 409, 410):
                self.stopped = "stale"
        except (LinkError, ProtocolError):
            pass

    def start(self) -> None:
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._link.abort()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S)
        self._link.close()

    def _beat_on(self) -> None:
        while self.stopped is None and not self._end.wait(self._lease.ttl_s / BEATS_PER_TTL):
            self.beat()
