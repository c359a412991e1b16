"""Resource usage of the agent: size, start time, memory, and growth over a simulated day of jobs.

    python -m benchmarks.agent

All figures are measured with this Python and, if installed, with Python 3.6, each in an empty
virtual environment, because packages of the user are not part of the agent.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.checks import Check, against, conclude, holds
from searcher.local.process_tree import build_agent

START_S = 0.3
RESIDENT_MB = 25.0
ARCHIVE_KB = 200.0
GROWTH_KB = 256.0
"""Allowance for CPython's cache of attribute names, which grows independently of jobs."""
RESIDENT_GROWTH_MB = 1.0
STARTS = 9
REAL_JOBS = 40
EARLY_JOBS = 5
WAIT_S = 120.0
REPOSITORY = Path(__file__).parents[1]
MODELS = [json.dumps({"fake_model": 1, "latency_s": latency_s}).encode()
          for latency_s in (1e-4, 2e-5)]
PLAN = {"name": "benchmark", "block_s": 0.004, "min_blocks": 8, "min_s": 0.0, "max_s": 0.2,
        "gate": 0.06, "fresh_session_every_s": 0.1, "warmup_s": 0.005}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Wire:
    """Coordinator side of the test: grants ``jobs`` leases and counts requests and results."""

    jobs: int = 0
    first_lease_at_s: float | None = None
    results: int = 0
    leased: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, what: str) -> None:
        with self.changed:
            met = self.changed.wait_for(
                lambda: self.first_lease_at_s is not None if what == "a lease request"
                else self.results >= self.jobs, WAIT_S)
        if not met:
            raise SystemExit(f"The agent did not send {what} within {WAIT_S:g} s.")

    def lease(self) -> dict[str, Any] | None:
        """The next lease; None when there is none within 20 s (a long poll)."""
        with self.changed:
            if self.first_lease_at_s is None:
                self.first_lease_at_s = time.monotonic()
                self.changed.notify_all()
            if not self.changed.wait_for(lambda: self.leased < self.jobs, 20.0):
                return None
            self.leased += 1
            refs = [{"sha256": digest(one), "size_bytes": len(one)} for one in MODELS]
            payload = {"reference": refs[0], "candidates": refs[1:], "runtime": "fake",
                       "options": {"threads": 1}, "plan": PLAN}
            return {"job": self.leased, "kind": "measure", "attempt": 1, "fence": self.leased,
                    "ttl_s": 20.0, "deadline_s": 60.0, "transfer_s": 60.0, "payload": payload}

    def offer(self, jobs: int) -> None:
        with self.changed:
            self.jobs += jobs
            self.changed.notify_all()

    def result(self) -> None:
        with self.changed:
            self.results += 1
            self.changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wire: Wire

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.path.split("/")[-1]
        self._send(200, next(one for one in MODELS if digest(one) == wanted))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/v1/agents":
            answer: dict[str, Any] | None = {"agent": "desk", "secret": "s", "protocol": 1}
        elif self.path == "/v1/lease":
            answer = self.wire.lease()
        else:
            answer = {"verdict": "continue"}
        self._send(204 if answer is None else 200,
                   b"" if answer is None else json.dumps(answer).encode())

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.wire.result()
        self._send(200, b'{"accepted":true}')

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def coordinator(wire: Wire) -> Iterator[str]:
    """Runs a coordinator on loopback and yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"wire": wire}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # agents are killed here
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Held:
    """Memory, file descriptors and CPU time of a process, read from /proc."""

    resident_mb: float
    descriptors: int
    cpu_s: float


def held(pid: int) -> Held:
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return Held(int(kilobytes) * 1024 / 1e6, len(os.listdir(f"/proc/{pid}/fd")),
                sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"))


@contextmanager
def agent(python: Path, archive: Path, url: str, spool: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [python, archive, "--coordinator", url, "--token", "once", "--name", "desk",
         "--runtime", "fake", "--spool", spool], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def starts(python: Path, archive: Path, folder: Path) -> tuple[list[float], Held]:
    """(seconds from exec to the first lease request of each start, resources of the last process
    while it waits for work). The first start includes enrolment and one start of the runtime."""
    wire, seconds = Wire(), []
    with coordinator(wire) as url:
        for _ in range(STARTS + 1):
            wire.first_lease_at_s = None
            began_s = time.monotonic()
            with agent(python, archive, url, folder / "spool") as process:
                wire.wait_for("a lease request")
                seconds.append((wire.first_lease_at_s or began_s) - began_s)
                waiting = held(process.pid)
    return seconds, waiting


def real_jobs(python: Path, archive: Path, folder: Path) -> tuple[Held, Held]:
    """Resources of the parent after ``EARLY_JOBS`` and after ``REAL_JOBS`` jobs in child processes.
    """
    wire = Wire()
    with coordinator(wire) as url, agent(python, archive, url, folder / "worked") as process:
        wire.offer(EARLY_JOBS)
        wire.wait_for("its results")
        early = held(process.pid)
        wire.offer(REAL_JOBS - EARLY_JOBS)
        wire.wait_for("its results")
        return early, held(process.pid)


def day(python: Path, jobs: int) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-m", "benchmarks.agent_day", "--jobs", str(jobs)], cwd=REPOSITORY,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def checks_of(python: Path, archive: Path, jobs: int, folder: Path) -> list[Check]:
    seconds, waiting = starts(python, archive, folder)
    early, late = real_jobs(python, archive, folder)
    found = day(python, jobs)
    name = f"Python {found['python']}"
    print(f"{name}: starts {min(seconds[1:]):.3f} to {max(seconds[1:]):.3f} s, CPU "
          f"{waiting.cpu_s:.2f} s, with enrolment {seconds[0]:.3f} s; {found['jobs']} jobs in "
          f"{found['hours']:.1f} h: {found['accepted']} results accepted, {found['refused']} "
          f"refused, {found['reconnected']} requests failed, {found['connections']} connections")
    first, last = found["early"], found["late"]
    return [
        against(f"{name}: exec to first lease request, median of {STARTS}",
                statistics.median(seconds[1:]), "<", START_S, " s"),
        against(f"{name}: resident while it waits", waiting.resident_mb, "<", RESIDENT_MB,
                " MB", 1),
        against(f"{name}: resident after {REAL_JOBS} real jobs", late.resident_mb, "<",
                RESIDENT_MB, " MB", 1),
        against(f"{name}: file handles, job {EARLY_JOBS} to {REAL_JOBS}",
                late.descriptors - early.descriptors, "==", 0, "", 0),
        holds(f"{name}: a simulated day", found["jobs"] == jobs and found["waiting"] == 0
              and found["accepted"] + found["refused"] == jobs and found["hours"] >= 24.0,
              f"{found['accepted'] + found['refused']} results of {found['jobs']} jobs", "all"),
        against(f"{name}: memory traced, job 60 to {jobs}",
                (last["traced_bytes"] - first["traced_bytes"]) / 1e3, "<=", GROWTH_KB, " kB", 1),
        against(f"{name}: resident, job 60 to {jobs}",
                (last["resident_bytes"] - first["resident_bytes"]) / 1e6, "<=",
                RESIDENT_GROWTH_MB, " MB", 2),
        against(f"{name}: file handles, job 60 to {jobs}",
                last["descriptors"] - first["descriptors"], "==", 0, "", 0),
        against(f"{name}: threads, job 60 to {jobs}", last["threads"] - first["threads"], "==", 0,
                "", 0),
    ]


def old_python() -> Path | None:
    """Path of a Python 3.6 from ``$PYTHON36``, pyenv or the PATH; None without one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [os.environ.get("PYTHON36"), *sorted(pyenv.glob("versions/3.6*/bin/python3.6")),
             shutil.which("python3.6")]
    return next((Path(one) for one in found if one), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2880, help="jobs of the simulated day")
    parser.add_argument("--python", type=Path, action="append",
                        help="interpreter to measure with (default: this one and a 3.6)")
    options = parser.parse_args()
    old = old_python()
    pythons = options.python or [Path(sys.executable), *([old] if old else [])]
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "agent.pyz"
        build_agent(archive)
        checks = [against("agent.pyz", archive.stat().st_size / 1e3, "<", ARCHIVE_KB, " kB", 1)]
        for number, python in enumerate(pythons):
            folder = Path(scratch) / str(number)
            subprocess.run([python, "-m", "venv", "--without-pip", folder / "python"], check=True)
            checks += checks_of(folder / "python" / "bin" / "python", archive, options.jobs, folder)
    if old is None and not options.python:
        print("Python 3.6 was not found. Set PYTHON36 to its path to measure with it too.")
    return conclude(checks, "resource usage of the agent")


if __name__ == "__main__":
    sys.exit(main())
