"""Builders as child processes, paused with SIGSTOP and replaced when they end."""

import logging
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from searcher.workers.base import Builders, WorkerPool

log = logging.getLogger(__name__)

MOST_EARLY_EXITS = 3
"""Consecutive builders that end without ever having a lease, after which the pool is broken."""

_STOP_WITHIN_S = 2.0
_END_WITHIN_S = 3.0
_NOT_RUNNING = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_TAIL_BYTES = 2000

SHORT_SPINS = {"GOMP_SPINCOUNT": "10000"}
"""Environment that limits the spinning of OpenMP threads.

OpenMP threads wait for each other by spinning. With the default count, a spinning thread occupies
the core that another thread needs: training on two threads with one busy core took 9.5 s instead
of 2.5 s, and 80 s beside another such training. On a quiet machine there is no difference."""

KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8000000000",
               "MALLOC_TOP_PAD_": "64000000", "MALLOC_ARENA_MAX": "1"}
"""Environment that lets glibc keep freed memory for the next tensors of a builder, in one heap for
all threads: a repair runs batches in threads (``strategies.repair.lockstep``).

By default it gives large tensors back to the kernel, which clears their pages again in every
training step. MobileNetV2 trains with 28 instead of 60 ms of CPU per picture (batch of 32, peak
memory 3.9 instead of 3.1 GB), a small residual network with 2.3 instead of 2.7."""


@dataclass(frozen=True)
class _Child:
    name: str
    agent: str
    process: subprocess.Popen[bytes]


class ProcessPool(WorkerPool):
    """``builders.count`` processes of ``builders.command``, each the leader of its own group.

    The output of a child goes to ``logs/<name>.log``. A child that ends is replaced by one with a
    new secret. The pool is ``broken`` after ``MOST_EARLY_EXITS`` consecutive children that never
    had a lease.
    """

    name = "process_pool"

    def __init__(self, builders: Builders) -> None:
        self._builders = builders
        self._children: dict[str, _Child] = {}
        self._watchers: list[threading.Thread] = []
        self._paused = self._stopping = False
        self._early_exits = 0

    def start(self) -> None:
        self._builders.logs.mkdir(parents=True, exist_ok=True)
        for number in range(self._builders.count):
            self._spawn(f"builder-{number}")

    def _spawn(self, name: str) -> None:
        agent, secret = self._builders.admit(name)
        with open(self._builders.logs / f"{name}.log", "ab") as sink:
            try:
                # A process group in this session: when this process ends, Linux also ends a
                # stopped child that has not yet called die_with_parent.
                process = subprocess.Popen(
                    self._builders.command, stdin=subprocess.PIPE, stdout=sink, stderr=sink,
                    process_group=0, env=SHORT_SPINS | KEPT_MEMORY | os.environ,
                )
            except OSError as error:
                self._builders.ended(agent, "it could not be started")
                self.broken = f"Builders cannot be started ({self._builders.command[0]}): {error}."
                return
        child = _Child(name, agent, process)
        self._children[name] = child
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.write(secret.encode() + b"\n")
                process.stdin.close()
        if self._paused:
            self._signal(child, signal.SIGSTOP)
        watcher = threading.Thread(target=self._watch, args=(child,), daemon=True)
        self._watchers.append(watcher)
        watcher.start()

    def _watch(self, child: _Child) -> None:
        child.process.wait()
        self._builders.post(lambda: self._gone(child))

    def _gone(self, child: _Child) -> None:
        if self._children.get(child.name) is not child:
            return
        del self._children[child.name]
        self._watchers = [watcher for watcher in self._watchers if watcher.is_alive()]
        self._signal(child, signal.SIGKILL)
        if self._stopping:
            return
        why = _cause(child.process.returncode)
        log.warning("%s ended: %s", child.name, why)
        self._early_exits = 0 if self._builders.ended(child.agent, why) else self._early_exits + 1
        if self._early_exits >= MOST_EARLY_EXITS:
            self.broken = (
                f"{self._early_exits} consecutive builders ended before a job, the last with "
                f"{why}. Its log {self._log_of(child)} ends with: {self._tail(child)}"
            )
            log.error("%s", self.broken)
        elif self.broken is None:
            self._spawn(child.name)

    def _log_of(self, child: _Child) -> Path:
        return self._builders.logs / f"{child.name}.log"

    def _tail(self, child: _Child) -> str:
        try:
            content = self._log_of(child).read_bytes()[-_TAIL_BYTES:]
        except OSError:
            return "(unreadable)"
        return content.decode("utf-8", "replace").strip()[-1000:] or "(nothing)"

    def _signal(self, child: _Child, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, number)

    def pause(self) -> bool:
        self._paused = True
        for child in self._children.values():
            self._signal(child, signal.SIGSTOP)
        deadline_s = time.monotonic() + _STOP_WITHIN_S
        while not all(_stopped(child.process.pid) for child in self._children.values()):
            if time.monotonic() > deadline_s:
                return False
            # There is no event for SIGSTOP. It takes effect within microseconds to milliseconds.
            time.sleep(0.0005)
        return True

    def resume(self) -> None:
        self._paused = False
        for child in self._children.values():
            self._signal(child, signal.SIGCONT)

    def stop(self) -> None:
        self._stopping = True
        for child in self._children.values():
            self._signal(child, signal.SIGTERM)
            self._signal(child, signal.SIGCONT)
        deadline_s = time.monotonic() + _END_WITHIN_S
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(deadline_s - time.monotonic(), 0.01))
            self._signal(child, signal.SIGKILL)
            child.process.wait()
        for watcher in self._watchers:
            watcher.join()
        self._children.clear()
        self._watchers.clear()

    def alive_count(self) -> int:
        return sum(child.process.poll() is None for child in self._children.values())


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def _stopped(pid: int) -> bool:
    """Whether all threads of the process and of its descendants are stopped or ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return all(
            member.status() in _NOT_RUNNING and _threads_stopped(member.pid) for member in family
        )
    except psutil.NoSuchProcess:
        return not psutil.pid_exists(pid)


def _threads_stopped(pid: int) -> bool:
    """Reads all threads from /proc; psutil reports only the state of the first."""
    tasks = Path(f"/proc/{pid}/task")
    for task in tasks.glob("*/stat"):
        try:
            state = task.read_text().rpartition(") ")[2][:1]
        except OSError:
            continue
        if state not in ("T", "t", "Z", "X"):
            return False
    return True
