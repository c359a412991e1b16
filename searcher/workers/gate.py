"""Pausing and ending of builders that run as threads, between two steps of their loop."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """Raised at a checkpoint after the end of the pool."""


class PauseGate:
    """Checkpoints of a builder's loop, at which the pool can pause or end it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._closed = self._ending = False
        self._still = 0
        self._present = 0

    def checkpoint(self) -> None:
        """Call between two steps. Blocks while paused. Raises Stopped when the pool ends."""
        with self.idle():
            pass

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Context of a wait without computation (a long poll): the builder counts as paused."""
        with self._condition:
            if self._ending:
                raise Stopped
            self._still += 1
        try:
            yield
        finally:
            with self._condition:
                while self._closed and not self._ending:
                    self._condition.wait()
                self._still -= 1
        with self._condition:
            if self._ending:
                raise Stopped

    def enter(self) -> None:
        """Register a builder."""
        with self._condition:
            self._present += 1

    def leave(self) -> None:
        """Remove a builder that ended."""
        with self._condition:
            self._present -= 1

    def close(self) -> bool:
        """Pause every builder at its next checkpoint. Returns whether all are paused or idle."""
        with self._condition:
            self._closed = True
            return self._still >= self._present

    def open(self) -> None:
        """Let all builders continue."""
        with self._condition:
            self._closed = False
            self._condition.notify_all()

    def end(self) -> None:
        """End all builders at their next checkpoint."""
        with self._condition:
            self._ending = True
            self._condition.notify_all()
