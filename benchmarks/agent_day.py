"""Simulates a day of one agent in seconds, with the real agent loop, a coordinator in the same
process and a simulated clock. Prints one JSON object: memory, file descriptors and threads after
job 60 and after the last job.

    python -m benchmarks.agent_day --jobs 2880 --hours 24

It uses only the standard library and Python 3.6, as the agent does.
"""

import argparse
import gc
import hashlib
import json
import os
import sys
import tempfile
import threading
import tracemalloc
from typing import Any, Callable, Dict, Generator, List, NamedTuple, Optional, Tuple

from agents.agent import Agent
from agents.child.progress import NO_SESSION
from agents.child.request import ChildRequest
from agents.coordinator.http import (
    Backoff,
    CoordinatorUnavailable,
    HttpClient,
    HttpResponse,
    RequestRefused,
    Trust,
)
from agents.coordinator.settings import AgentSettings
from agents.measurement.child_process import Child, ChildProgress
from agents.platform.files import NO_SPACE
from agents.platform.sysfs import SystemTree
from agents.protocol import canonical_json, pack_samples

CAPABILITIES: Dict[str, object] = {
    "kinds": ["measure"], "runtimes": {"fake": {"fake": "1"}}, "meters": {}}
POLL_S = 25.0
SAMPLES = 200
EARLY = 60
"""By this job every kind of failure has happened once, so that its modules are imported."""
MODELS = 12
PLAN = {"name": "day", "block_s": 0.004, "min_blocks": 8, "min_s": 0.0, "max_s": 1.0, "gate": 0.06,
        "fresh_session_every_s": 1.0, "warmup_s": 0.0}


class Clock:
    """A simulated clock, which advances by each wait."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, delay_s: float) -> None:
        self.now_s += delay_s


class Lab:
    """A simulated coordinator, which grants jobs one after another and injects failures."""

    def __init__(self, clock: Clock, jobs: int, period_s: float) -> None:
        self.clock = clock
        self.jobs = jobs
        self.period_s = period_s
        self.models = [canonical_json({"fake_model": 1, "number": number, "pad": "x" * 4000})
                       for number in range(MODELS)]
        self.refs = [{"sha256": hashlib.sha256(one).hexdigest(), "size_bytes": len(one)}
                     for one in self.models]
        self.by_digest = {ref["sha256"]: one for ref, one in zip(self.refs, self.models)}
        self.leased = 0
        self.accepted = 0
        self.refused = 0
        self.reconnected = 0
        self.away = 0
        self.connections = 0
        self.on_lease: Callable[[int], None] = lambda job: None
        self.finish: Callable[[], None] = lambda: None

    def lease(self) -> Optional[Dict[str, Any]]:
        """None until the next job is due, and when the day is over."""
        if self.clock.now_s < self.leased * self.period_s:
            self.clock.wait(POLL_S)
            return None
        if self.leased == self.jobs:
            self.finish()
            return None
        self.leased += 1
        job = self.leased
        self.on_lease(job)
        # Each kind of failure is repeated with its own period.
        self.away = 3 if job % 37 == 0 else 0
        payload: Dict[str, Any] = {
            "reference": self.refs[0], "candidates": [self.refs[1 + job % (MODELS - 1)]],
            "runtime": "onnxruntime" if job % 41 == 0 else "fake",
            "options": {"threads": 1}, "plan": PLAN, "attempt": 1}
        if job % 43 == 0:
            payload.pop("plan")
        return {"job": job, "kind": "unknown" if job % 47 == 0 else "measure", "attempt": 1,
                "fence": job, "ttl_s": 0.02 if job % 50 == 0 else 20.0,
                "deadline_s": 60.0, "transfer_s": 60.0, "payload": payload}

    def result(self, body: bytes) -> None:
        if self.leased % 23 == 0:
            self.refused += 1
            raise RequestRefused("the fence is stale", 409)
        self.accepted += 1


class LabLink(HttpClient):
    """A link into the lab; every tenth job or so it breaks."""

    lab: Lab

    def __init__(self, lab: Lab, url: str, secret: Optional[str], trust: Trust) -> None:
        super().__init__(url, secret, trust)
        self.lab = lab
        lab.connections += 1

    def request(self, method: str, path: str, body: Optional[bytes] = None,
                headers: Optional[Dict[str, str]] = None, timeout_s: float = 30.0) -> HttpResponse:
        if path == "/v1/agents":
            return _json({"agent": "desk", "secret": "s", "protocol": 1})
        if path == "/v1/heartbeat":
            return _json({"verdict": "continue"})
        if self.lab.away:
            self.lab.away -= 1
            self.lab.reconnected += 1
            raise CoordinatorUnavailable("the coordinator is restarting")
        if path == "/v1/lease":
            lease = self.lab.lease()
            return HttpResponse(204, b"") if lease is None else _json(lease)
        self.lab.result(body or b"")
        return _json({"accepted": True})

    def download(self, path: str, offset: int,
                 timeout_s: float = 30.0) -> Tuple[int, Generator[bytes, None, None]]:
        content = self.lab.by_digest[path.split("/")[-1]]
        if self.lab.leased % 29 == 0 and not offset:
            return 0, _pieces(content[:1000], broken=True)
        return offset, _pieces(content[offset:], broken=False)


class LabChild(Child):
    """Sends the events of a measuring child, without a process."""

    def __init__(self, lab: Lab, request: ChildRequest) -> None:
        self._lab = lab
        self._indexes = request.indexes
        self._ended: Optional[str] = None
        self._events = self._script(lab.leased)

    def next_event(self, timeout_s: float) -> Optional[Dict[str, Any]]:
        event = next(self._events, None)
        if event is None:
            self._lab.clock.wait(timeout_s)
        return event

    def progress(self) -> ChildProgress:
        return ChildProgress(self._indexes[-1] if self._ended else NO_SESSION, False, 1)

    def ended(self) -> Optional[str]:
        return self._ended

    def last_stderr_line(self) -> str:
        return ""

    def close(self) -> None:
        self._events.close()

    def _script(self, job: int) -> Generator[Dict[str, Any], None, None]:
        yield {"event": "ready", "versions": {"fake": "1"}}
        if job % 53 == 0:
            raise OSError(NO_SPACE[0], "No space left on device")
        for index in self._indexes:
            yield {"event": "opened", "index": index, "load_s": 0.1, "first_s": 0.1,
                   "provider": "FakeExecutionProvider", "outputs": [0.25] * 10}
            if job % 19 == 0 and index:
                self._ended = "signal 11"
                return
        if job % 50 == 0:
            threading.Event().wait(0.03)  # long enough in real time for heartbeats
        self._lab.clock.wait(5.0)
        blocks = [1e-4] * 20
        series = {"candidate_s": blocks, "before_s": blocks, "after_s": blocks,
                  "samples": pack_samples([100000 + job] * SAMPLES), "sample_blocks": [10] * 20}
        yield {"event": "rounds", "reference_s": blocks, "openings": 1,
               "series": {str(index): series for index in self._indexes if index}}
        yield {"event": "end"}


class Size(NamedTuple):
    """Resources of the agent's process; None where the system does not report them."""

    traced_bytes: int
    resident_bytes: Optional[int]
    descriptors: Optional[int]
    threads: int


def size() -> Size:
    gc.collect()
    resident = SystemTree().kibibytes("/proc/self/status", "VmRSS")
    folder = "/proc/self/fd"
    return Size(tracemalloc.get_traced_memory()[0], resident,
                len(os.listdir(folder)) if os.path.isdir(folder) else None,
                threading.active_count())


def live(spool: str, jobs: int, hours: float = 24.0) -> Dict[str, Any]:
    """Runs ``jobs`` jobs spread over ``hours``; returns resources after job ``EARLY`` and at the
    end, and counts of results and connections."""
    clock = Clock()
    lab = Lab(clock, jobs, hours * 3600.0 / jobs)
    sizes: List[Size] = []
    agent = Agent(
        AgentSettings("http://lab:1", "desk", spool, "token", runtimes=("fake",)),
        lambda: CAPABILITIES, lambda runtime, request: LabChild(lab, request), SystemTree(spool),
        clock,
        clock.wait, Backoff(draw=lambda: 0.5),
        connect=lambda url, secret, trust: LabLink(lab, url, secret, trust))

    def record_size(job: int) -> None:
        if job == EARLY:
            sizes.append(size())

    lab.on_lease = record_size
    lab.finish = agent.finish.set
    tracemalloc.start()
    try:
        done = agent.run()
        sizes.append(size())
    finally:
        tracemalloc.stop()
    waiting = sum(len(names) for _, _, names in os.walk(os.path.join(spool, "results")))
    return {"python": "{}.{}.{}".format(*sys.version_info[:3]), "jobs": done,
            "hours": clock.now_s / 3600.0, "accepted": lab.accepted, "refused": lab.refused,
            "reconnected": lab.reconnected, "connections": lab.connections, "waiting": waiting,
            "early": sizes[0]._asdict(), "late": sizes[-1]._asdict()}


def _json(content: Dict[str, Any]) -> HttpResponse:
    return HttpResponse(200, canonical_json(content))


def _pieces(content: bytes, broken: bool) -> Generator[bytes, None, None]:
    yield content
    if broken:
        raise CoordinatorUnavailable("the connection was closed")


def main() -> None:
    parser = argparse.ArgumentParser(description="A simulated day of one agent, as JSON.")
    parser.add_argument("--jobs", type=int, default=2880)
    parser.add_argument("--hours", type=float, default=24.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as spool:
        sys.stdout.write(json.dumps(live(spool, options.jobs, options.hours)) + "\n")


if __name__ == "__main__":
    main()
