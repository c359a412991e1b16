"""A ledger with enrolled devices and queued jobs, and server processes on it: the shipped one, one
with an optimisation disabled, or a bare one."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from agents import protocol
from searcher.devices import enrolment
from searcher.dispatch import queue
from searcher.ledger.store import Store
from searcher.ledger.tables import campaigns
from searcher.ledger.tables import devices as device_table
from searcher.spec.campaign import from_document
from searcher.spec.measurement_plan import PLANS

GOLDEN = Path(__file__).parents[2] / "tests" / "wire" / "v1"
CAMPAIGN = "load"
REFERENCE, CANDIDATE = "a" * 64, "b" * 64
STARTUP_S = 60.0
SETTLE_WITHIN_S, IDLE_SHARE = 120, 0.1


@dataclass(frozen=True)
class Device:
    name: str
    secret: str


def fill(directory: Path, devices: int, jobs_each: int) -> list[Device]:
    """Creates a ledger with ``devices`` on other hosts (they share no cores with the coordinator),
    and ``jobs_each`` queued jobs per device."""
    directory.mkdir(parents=True)
    store, now_s = Store(directory / "ledger.db"), time.time()
    made = []
    with store.atomic() as db:
        spec = from_document({"name": CAMPAIGN, "task": "lenet5-mnist"}).as_dict()
        campaigns.create(db, CAMPAIGN, spec, now_s)
        campaigns.set_state(db, CAMPAIGN, "running", None, now_s)
        for number in range(devices):
            name = f"device-{number:05d}"
            device_table.put_device(db, name, None, {"hostname": name}, {}, False, now_s)
            _, secret = enrolment.admit(db, name, "agent", now_s)
            made.append(Device(name, secret))
            for attempt in range(jobs_each):
                queue.submit(db, "measure", f"device:{name}", payload(attempt), CAMPAIGN, 0, False,
                             now_s)
    store.close()
    return made


def payload(attempt: int) -> dict[str, Any]:
    """The golden request with one candidate. Each ``attempt`` is a different job."""
    golden = json.loads((GOLDEN / "measure_payload.json").read_text())
    return {**golden, "reference": {"sha256": REFERENCE, "size_bytes": 1000},
            "candidates": [{"sha256": CANDIDATE, "size_bytes": 1000}],
            "plan": PLANS["quick"]._asdict(), "attempt": attempt}


def result(samples: int, per_block: int = 5) -> bytes:
    """The golden result with one candidate of ``samples`` calls."""
    golden = json.loads((GOLDEN / "measure_result.json").read_text())
    blocks = samples // per_block
    calls = [25_000 + 37 * i % 900 for i in range(samples)]
    medians = [sorted(calls[b * per_block:(b + 1) * per_block])[per_block // 2] * 1e-9
               for b in range(blocks)]
    beside = [1.07e-4 + 1e-8 * (b % 50) for b in range(blocks)]
    first = golden["measurements"][0]
    golden["measurements"] = [{
        **first, "sha256": CANDIDATE, "sample_blocks": [per_block] * blocks,
        "blocks": {"candidate_s": medians, "before_s": beside, "after_s": beside},
        "samples": protocol.pack_samples(calls)}]
    return protocol.encode(protocol.ResultEnvelope("done", golden))


@dataclass
class Serving:
    """A server process with its URL and operator token; measures its CPU time and memory."""

    process: psutil.Process
    url: str
    token: str

    def cpu_s(self) -> float:
        """User and system time so far, of all threads."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def helpers_cpu_s(self) -> float:
        """The same for its child processes, without searches."""
        return sum(float(sum(child.cpu_times()[:2])) for child in self.process.children()
                   if "searcher.search.process" not in child.cmdline())

    def settle(self) -> None:
        """Waits until the coordinator and its children are idle. Raises SystemExit."""
        used_s = self._tree_cpu_s()
        for _ in range(SETTLE_WITHIN_S):
            time.sleep(1.0)
            before_s, used_s = used_s, self._tree_cpu_s()
            if used_s - before_s < IDLE_SHARE:
                return
        raise SystemExit(f"still busy after {SETTLE_WITHIN_S} s without a request")

    def _tree_cpu_s(self) -> float:
        tree = [self.process, *self.process.children(recursive=True)]
        return sum(float(sum(one.cpu_times()[:2])) for one in tree)

    def resident_bytes(self) -> int:
        return int(self.process.memory_info().rss)


@contextlib.contextmanager
def serving(directory: Path, core: int | None, *options: str) -> Iterator[Serving]:
    """Runs ``fleetfront serve`` on ``directory``, pinned to ``core``, without builders."""
    command = [str(Path(sys.executable).with_name("fleetfront")), "serve", "--dir", str(directory),
               "--port", "0", "--builders", "0", *options]
    with started(directory, core, command) as served:
        yield served


@contextlib.contextmanager
def bare(directory: Path, core: int | None) -> Iterator[Serving]:
    """Runs ``benchmarks.load.bare``, which writes its address into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.load.bare", "--dir", str(directory)]
    with started(directory, core, command) as served:
        yield served


@contextlib.contextmanager
def started(
    directory: Path, core: int | None, command: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Serving]:
    """Runs a server that writes ``coordinator.json``, pinned to ``core``. Raises SystemExit."""
    with (directory / "serve.log").open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 env={**os.environ, **(environment or {})})
    try:
        if core is not None:
            os.sched_setaffinity(child.pid, {core})
        address = _address(directory, child)
        yield Serving(psutil.Process(address["pid"]), address["url"], address["token"])
    finally:
        child.terminate()
        child.wait()


def _address(directory: Path, child: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline_s = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline_s:
        if child.poll() is not None:
            raise SystemExit(f"serve ended:\n{(directory / 'serve.log').read_text()}")
        with contextlib.suppress(OSError, ValueError, httpx.TransportError):
            address: dict[str, Any] = json.loads((directory / "coordinator.json").read_text())
            httpx.get(f"{address['url']}/healthz")
            return address
        time.sleep(0.05)
    raise SystemExit("serve did not answer")
