"""What every worker pool promises, tried with a tiny builder that only counts.

The builder reports its count through a named pipe: reading blocks until it moves, so that nothing
sleeps.
"""

import os
import queue
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from searcher.workers.base import Builders, WorkerPool
from searcher.workers.gate import PauseGate

PATIENCE_S = 30.0
SILENT_S = 0.05
COUNT = 2

COUNTING = """
import os, sys
sys.stdin.readline()
out = os.open(sys.argv[1], os.O_WRONLY)
while True:
    os.write(out, b"x")
"""


class Reports:
    """A named pipe that builders write to for as long as they compute."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._reading = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def drain(self) -> None:
        try:
            while os.read(self._reading, 65_536):
                pass
        except BlockingIOError:
            pass

    def arrives(self, within_s: float) -> bool:
        ready, _, _ = select.select([self._reading], [], [], within_s)
        return bool(ready)

    def close(self) -> None:
        os.close(self._reading)


class Crew:
    """A pool of ``COUNT`` counting builders. ``posted`` holds what the pool asks the owner's
    thread to run, ``ended`` what it has reported."""

    def __init__(self, implementation: type[WorkerPool], folder: Path, script: str = COUNTING,
                 command: tuple[str, ...] | None = None, count: int = COUNT,
                 loop: Callable[[PauseGate, str], None] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.reports = Reports(folder / "reports")
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self.ended: list[tuple[str, str]] = []
        self.worked = True
        self.admitted: list[str] = []
        program = (sys.executable, "-S", "-c", script, str(self.reports.path))
        self.pool = implementation(Builders(
            count, command or program, loop or self._loop, folder / "logs",
            admit=self._admit, ended=self._ended, post=self.posted.put))

    def _admit(self, name: str) -> tuple[str, str]:
        self.admitted.append(name)
        return f"agent-{len(self.admitted)}", f"secret-{len(self.admitted)}"

    def _ended(self, agent: str, why: str) -> bool:
        self.ended.append((agent, why))
        return self.worked

    def _loop(self, gate: PauseGate, secret: str) -> None:
        """The program as a thread, which must not block outside of ``idle``."""
        writing = os.open(self.reports.path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                gate.checkpoint()
                try:
                    os.write(writing, b"x")
                except BlockingIOError:
                    with gate.idle():
                        select.select([], [writing], [], 0.01)
        finally:
            os.close(writing)

    def wait_for_progress(self) -> None:
        self.reports.drain()
        assert self.reports.arrives(PATIENCE_S), "no builder moves"

    def pause(self) -> None:
        while not self.pool.pause():
            pass

    def is_silent(self) -> bool:
        self.reports.drain()
        return not self.reports.arrives(SILENT_S)

    def run_posted(self) -> None:
        """The next function that the pool posts."""
        self.posted.get(timeout=PATIENCE_S)()

    def close(self) -> None:
        self.pool.stop()
        self.reports.close()


class WorkerPoolContract:
    """Subclass it with a fixture or parameter ``implementation``: the class of a pool."""

    @pytest.fixture
    def crew(self, implementation: type[WorkerPool], tmp_path: Path) -> Iterator[Crew]:
        crew = Crew(implementation, tmp_path)
        yield crew
        crew.close()

    def test_nothing_runs_before_the_start(self, crew: Crew) -> None:
        assert isinstance(crew.pool, WorkerPool) and crew.pool.name
        assert crew.pool.alive_count() == 0 and not crew.admitted
        assert crew.pool.broken is None
        assert crew.pool.pause()
        crew.pool.resume()

    def test_every_builder_is_admitted(self, crew: Crew) -> None:
        crew.pool.start()
        crew.wait_for_progress()
        assert len(crew.admitted) == len(set(crew.admitted)) == COUNT

    def test_pause_and_resume(self, crew: Crew) -> None:
        crew.pool.start()
        assert crew.pool.alive_count() == COUNT
        crew.wait_for_progress()
        crew.pause()
        assert crew.is_silent()
        assert crew.pool.pause(), "pausing twice is pausing"
        assert crew.pool.alive_count() == COUNT
        crew.pool.resume()
        crew.pool.resume()
        crew.wait_for_progress()

    def test_stop_leaves_no_builder(self, crew: Crew) -> None:
        crew.pool.start()
        crew.wait_for_progress()
        crew.pool.stop()
        assert crew.pool.alive_count() == 0
        assert crew.is_silent()

    def test_a_paused_pool_can_be_stopped(self, crew: Crew) -> None:
        crew.pool.start()
        crew.wait_for_progress()
        crew.pause()
        crew.pool.stop()
        assert crew.pool.alive_count() == 0

    def test_what_was_asked_to_stop_is_no_failure(self, crew: Crew) -> None:
        crew.pool.start()
        crew.wait_for_progress()
        crew.pool.stop()
        while not crew.posted.empty():
            crew.run_posted()
        assert crew.ended == [] and crew.pool.broken is None and crew.pool.alive_count() == 0
