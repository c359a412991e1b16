"""Worker pools: builders that can be stopped for a quiet window.

A pool is one file of this package and one line of ``searcher.workers.registry``, or an entry point
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
    """The builders of a pool, and the callbacks that a pool calls.

    A builder is a program, ``command``, which reads its secret from the first line of standard
    input, or ``loop(gate, secret)``, which does the same work in a thread of this process and
    lets ``Stopped`` pass. ``admit(name)`` returns identity and secret of a new builder.
    ``ended(identity, why)`` must be called for every builder that ended by itself; it returns
    whether the builder ever had a lease. ``post``, from any thread, runs a function soon in the
    owner's thread.
    """

    count: int
    command: tuple[str, ...]
    loop: Callable[[PauseGate, str], None]
    logs: Path
    admit: Callable[[str], tuple[str, str]]
    ended: Callable[[str, str], bool]
    post: Callable[[Callable[[], None]], None]


class WorkerPool(ABC):
    """Starts, pauses and ends builders.

    All methods are called from the coordinator's thread, which lives as long as the process.
    """

    name: ClassVar[str]
    broken: str | None = None
    """Why no builder can run again, with what to do; None while builders can run."""

    @abstractmethod
    def __init__(self, builders: Builders) -> None:
        """No builder runs before ``start``."""

    @abstractmethod
    def start(self) -> None:
        """Start the builders, which lease their jobs from the coordinator."""

    @abstractmethod
    def pause(self) -> bool:
        """Stop all builders. Returns True when all have verifiably stopped computing. After
        False they are still stopping, and the caller must call again. Idempotent."""

    @abstractmethod
    def resume(self) -> None:
        """Let all builders continue where they stopped. Idempotent."""

    @abstractmethod
    def stop(self) -> None:
        """End all builders, also paused ones. Returns when none is left."""

    @abstractmethod
    def alive_count(self) -> int:
        """Number of builders that exist, including paused ones."""


class NoWorkers(WorkerPool):
    """The pool of a coordinator without builders of its own."""

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
