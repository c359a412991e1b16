"""Builders as threads of this process: for a single build, for tests, and for debugging."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopped(Exception):
    """Raised at a checkpoint when the crew is told to end."""


class Gate:
    """What a builder's loop must respect: it may be held between two steps, or ended."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._closed = self._ending = False
        self._still = 0
        self._present = 0

    def checkpoint(self) -> None:
        """Between two steps: blocks while paused. Raises Stopped when the crew ends."""
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
        with self._condition:
            self._present += 1

    def leave(self) -> None:
        with self._condition:
            self._present -= 1

    def close(self) -> bool:
        """Hold all who come by; True once everyone present is held or idle."""
        with self._condition:
            self._closed = True
            return self._still >= self._present

    def open(self) -> None:
        with self._condition:
            self._closed = False
            self._condition.notify_all()

    def end(self) -> None:
        with self._condition:
            self._ending = True
            self._condition.notify_all()


class InProcess:
    """``count`` threads that each run ``loop(gate)``; a pause takes effect between two steps.

    ``loop`` calls ``gate.checkpoint()`` between steps and lets ``Stopped`` pass. A thread that
    ends by another exception stays dead; the crew is ``broken`` when none is left.
    """

    def __init__(self, loop: Callable[[Gate], None], count: int = 1) -> None:
        self.broken: str | None = None
        self._loop, self._count = loop, count
        self._gate = Gate()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for number in range(self._count):
            self._gate.enter()
            thread = threading.Thread(
                target=self._run, name=f"builder-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        try:
            self._loop(self._gate)
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001  the boundary of a builder's thread
            if self.alive_count() <= 1:
                self.broken = (
                    f"The last builder ended by {type(error).__name__}: {error}. Mend the cause "
                    "and start again."
                )
        finally:
            self._gate.leave()

    def pause(self) -> bool:
        return self._gate.close()

    def resume(self) -> None:
        self._gate.open()

    def stop(self) -> None:
        self._gate.end()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def alive_count(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)
