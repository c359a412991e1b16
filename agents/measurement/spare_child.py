"""A measuring child that is started in advance, so that its runtime is imported between jobs.

    job 1 ........ result sent | start: import .. waits for a request | job 2 opens its files at
    once
                                                                      | killed after KEPT_S

Importing a runtime takes from half a second to a minute. A child serves one job only.
"""

import time
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    from agents.child.request import ChildRequest
    from agents.measurement.child_process import ProcessChild

KEPT_S = 60.0
"""Longest life of a waiting child after the last job, since it occupies memory."""


class SpareChild:
    """``start`` is the agent's ``StartChild``; ``ensure_waiting`` is called between jobs. Not
    thread-safe."""

    def __init__(self, python: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._python, self._clock = python, clock
        self._runtime: Optional[str] = None
        self._used_s = 0.0
        self._child: Optional["ProcessChild"] = None

    def start(self, runtime: str, request: "ChildRequest") -> "ProcessChild":
        """A child that executes ``request``: the waiting one, or a new one. Raises OSError."""
        waiting, self._child = self._child, None
        usable = waiting is not None and self._runtime == runtime and not waiting.has_ended()
        self._runtime, self._used_s = runtime, self._clock()
        if waiting is not None and not usable:
            waiting.close()
        child = waiting if waiting is not None and usable else self._new(runtime)
        child.begin(request)
        return child

    def ensure_waiting(self) -> None:
        """Starts a waiting child after a job, and ends it after ``KEPT_S`` without another."""
        if self._runtime is None:
            return
        if self._clock() - self._used_s > KEPT_S:
            self.close()
        elif self._child is None:
            try:
                self._child = self._new(self._runtime)
            except OSError:
                self._runtime = None  # the next job reports the error

    def _new(self, runtime: str) -> "ProcessChild":
        from agents.measurement.child_process import (
            ProcessChild,  # an idle agent does not need it
        )
        return ProcessChild(runtime, python=self._python)

    def close(self) -> None:
        """Ends the waiting child. Idempotent."""
        self._runtime = None
        if self._child is not None:
            self._child.close()
            self._child = None
