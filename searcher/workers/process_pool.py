"""Builders as child processes, stopped by SIGSTOP and replaced when they die."""

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

MOST_FRUITLESS = 3
"""Builders that may end in a row without ever having worked, before the pool gives up."""

_STOP_WITHIN_S = 2.0
_END_WITHIN_S = 3.0
_NOT_RUNNING = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_TAIL_BYTES = 2000

SHORT_SPINS = {"GOMP_SPINCOUNT": "10000"}
"""OpenMP's threads wait for each other by spinning. By default that takes the core which the other
thread needs as soon as anything else runs: training on two threads of a machine with one busy core
took 9.5 s instead of 2.5, beside another such training 80 s. On a quiet machine it makes no
difference."""


@dataclass(frozen=True)
class _Child:
    name: str
    agent: str
    process: subprocess.Popen[bytes]


class ProcessPool(WorkerPool):
    """``builders.count`` processes of ``builders.command``, each the leader of its own group.

    What a child writes goes to ``logs/<name>.log``. One that ends is replaced, with a new secret.
    The pool is ``broken`` when ``MOST_FRUITLESS`` in a row ended without ever having worked.
    """

    name = "process_pool"

    def __init__(self, builders: Builders) -> None:
        self._builders = builders
        self._children: dict[str, _Child] = {}
        self._watchers: list[threading.Thread] = []
        self._paused = self._stopping = False
        self._fruitless = 0

    def start(self) -> None:
        self._builders.logs.mkdir(parents=True, exist_ok=True)
        for number in range(self._builders.count):
            self._spawn(f"builder-{number}")

    def _spawn(self, name: str) -> None:
        agent, secret = self._builders.admit(name)
        with open(self._builders.logs / f"{name}.log", "ab") as sink:
            try:
                # A group in our session: Linux ends a stopped one with us even when it was stopped
                # before it could ask for that itself.
                process = subprocess.Popen(
                    self._builders.command, stdin=subprocess.PIPE, stdout=sink, stderr=sink,
                    process_group=0, env=SHORT_SPINS | os.environ,
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
        self._fruitless = 0 if self._builders.ended(child.agent, why) else self._fruitless + 1
        if self._fruitless >= MOST_FRUITLESS:
            self.broken = (
                f"{self._fruitless} builders in a row ended before they could work, the last by "
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
            # A signal cannot be waited for; it takes effect within microseconds to milliseconds.
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
    """Whether the process and all it started have stopped computing, thread by thread."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return all(
            member.status() in _NOT_RUNNING and _threads_stopped(member.pid) for member in family
        )
    except psutil.NoSuchProcess:
        return not psutil.pid_exists(pid)


def _threads_stopped(pid: int) -> bool:
    """psutil knows the state of the first thread only; Linux shows all."""
    tasks = Path(f"/proc/{pid}/task")
    for task in tasks.glob("*/stat"):
        try:
            state = task.read_text().rpartition(") ")[2][:1]
        except OSError:
            continue
        if state not in ("T", "t", "Z", "X"):
            return False
    return True
