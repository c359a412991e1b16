"""Builders as threads of the coordinator's process, for debugging and small campaigns.

A pause takes effect only when the running builds end, and a builder that crashes the interpreter
ends the coordinator. The process pool has neither limit.
"""

import threading
import time

from searcher.workers.base import Builders, WorkerPool
from searcher.workers.gate import PauseGate, Stopped

_END_WITHIN_S = 3.0


class InProcess(WorkerPool):
    """``builders.count`` threads that each run ``builders.loop``; a pause takes effect between two
    steps. A thread that ends with another exception than ``Stopped`` is not replaced; the pool
    is ``broken`` when none is left.

    A thread cannot be killed. Therefore ``stop`` waits at most 3 s for a running build, which then
    ends with the process.
    """

    name = "in_process"

    def __init__(self, builders: Builders) -> None:
        self._builders = builders
        self._gate = PauseGate()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for number in range(self._builders.count):
            identity, secret = self._builders.admit(f"builder-{number}")
            self._gate.enter()
            thread = threading.Thread(
                target=self._run, args=(identity, secret), name=f"builder-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, identity: str, secret: str) -> None:
        try:
            self._builders.loop(self._gate, secret)
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001  the boundary of a builder's thread
            why = f"{type(error).__name__}: {error}"
            if self.alive_count() <= 1:
                self.broken = (f"The last builder ended with {why}. Correct the cause and start "
                               "again.")
            self._builders.post(lambda: self._report(identity, why))
        finally:
            self._gate.leave()

    def _report(self, identity: str, why: str) -> None:
        self._builders.ended(identity, why)

    def pause(self) -> bool:
        return self._gate.close()

    def resume(self) -> None:
        self._gate.open()

    def stop(self) -> None:
        self._gate.end()
        deadline_s = time.monotonic() + _END_WITHIN_S
        for thread in self._threads:
            thread.join(max(deadline_s - time.monotonic(), 0.0))
        self._threads = [thread for thread in self._threads if thread.is_alive()]

    def alive_count(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)
