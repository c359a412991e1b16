"""A measuring child that is started ahead: its runtime is imported while the device has no job.

    job 1 ........ result sent | start: import ...... waits for a request | job 2: opens at once
                                                                          | killed after KEPT_S

Importing a runtime takes from half a second to a minute, in which nothing is measured. A child
still serves one job only.
"""

import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

if TYPE_CHECKING:
    from agents.measurement.child_process import ProcessChild

KEPT_S = 60.0
"""How long after its last job a device keeps the memory of a child that waits."""


class Spare:
    """``start`` is the agent's ``StartChild``; ``ready`` is called whenever no job runs. Not
    thread-safe."""

    def __init__(self, python: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._python, self._clock = python, clock
        self._runtime: Optional[str] = None
        self._used_s = 0.0
        self._child: Optional["ProcessChild"] = None

    def start(self, runtime: str, request: Dict[str, Any]) -> "ProcessChild":
        """A child at work on ``request``: the one that waits, or a new one. Raises OSError."""
        waiting, self._child = self._child, None
        usable = waiting is not None and self._runtime == runtime and not waiting.is_over()
        self._runtime, self._used_s = runtime, self._clock()
        if waiting is not None and not usable:
            waiting.close()
        child = waiting if waiting is not None and usable else self._new(runtime)
        child.begin(request)
        return child

    def ready(self) -> None:
        """Have one waiting for a while after a job, and none after that."""
        if self._runtime is None:
            return
        if self._clock() - self._used_s > KEPT_S:
            self.close()
        elif self._child is None:
            try:
                self._child = self._new(self._runtime)
            except OSError:
                self._runtime = None  # the next job will say why

    def _new(self, runtime: str) -> "ProcessChild":
        from agents.measurement.child_process import (
            ProcessChild,  # an agent that has no job does without
        )
        return ProcessChild(runtime, python=self._python)

    def close(self) -> None:
        """May be called twice."""
        self._runtime = None
        if self._child is not None:
            self._child.close()
            self._child = None
