"""Where builds run: a pool of builders that can be stopped for a quiet window.

A pool is one file in this folder and one line of the registry, or an entry point
``fleetfront.worker_pools``.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from searcher.workers.gate import PauseGate


@dataclass(frozen=True)
class Builders:
    """What a pool starts, and whom it reports to.

    A builder is a program, ``command``, which reads its secret from the first line of standard
    input, or ``loop(gate, secret)``, which does the same work in a thread of this process and
    lets ``Stopped`` pass. ``admit(name)`` gives identity and secret of a new builder;
    ``ended(identity, why)`` is called for every one that ended by itself and answers whether it
    had ever worked. ``post`` runs a function in the owner's thread, soon, from any thread.
    """

    count: int
    command: tuple[str, ...]
    loop: Callable[[PauseGate, str], None]
    logs: Path
    admit: Callable[[str], tuple[str, str]]
    ended: Callable[[str, str], bool]
    post: Callable[[Callable[[], None]], None]


class WorkerPool(ABC):
    """Called from the coordinator's one thread only; that thread lives as long as the process."""

    name: ClassVar[str]
    broken: str | None = None
    """Why no builder will ever run again (with what to do), None while there is hope."""

    @abstractmethod
    def __init__(self, builders: Builders) -> None:
        """Nothing runs before ``start``."""

    @abstractmethod
    def start(self) -> None:
        """Begin to work; builders lease their jobs from the coordinator."""

    @abstractmethod
    def pause(self) -> bool:
        """Stop all builders. True once every one has verifiably stopped computing; False means
        that they will, and that the caller should ask again. Idempotent."""

    @abstractmethod
    def resume(self) -> None:
        """Let all builders continue where they stopped. Idempotent."""

    @abstractmethod
    def stop(self) -> None:
        """End all builders, paused or not; returns when none is left."""

    @abstractmethod
    def alive_count(self) -> int:
        """Builders that exist, paused ones included."""


class NoWorkers(WorkerPool):
    """The pool of a coordinator that builds nothing itself."""

    name = "none"

    def __init__(self, builders: Builders | None = None) -> None:
        pass

    def start(self) -> None:
        pass

    def pause(self) -> bool:
        return True

    def resume(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def alive_count(self) -> int:
        return 0


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
