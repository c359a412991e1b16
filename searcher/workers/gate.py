"""Where builders that run as threads may be held, or ended, between two steps."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """Raised at a checkpoint when the pool ends."""


class PauseGate:
    """What a builder's loop must respect: it may be held between two steps, or ended."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._closed = self._ending = False
        self._still = 0
        self._present = 0

    def checkpoint(self) -> None:
        """Between two steps: blocks while paused. Raises Stopped when the pool ends."""
        with self.idle():
            pass

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Around waiting that computes nothing (a long poll): counts as stopped meanwhile."""
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
        """A builder is there."""
        with self._condition:
            self._present += 1

    def leave(self) -> None:
        """It has ended."""
        with self._condition:
            self._present -= 1

    def close(self) -> bool:
        """Hold every builder at its next checkpoint; True once all are held or idle."""
        with self._condition:
            self._closed = True
            return self._still >= self._present

    def open(self) -> None:
        """Let all continue."""
        with self._condition:
            self._closed = False
            self._condition.notify_all()

    def end(self) -> None:
        """End all at their next checkpoint."""
        with self._condition:
            self._ending = True
            self._condition.notify_all()
