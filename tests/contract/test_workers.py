"""What every crew of builders promises, tried on each with a tiny builder that only counts.

The builder reports its count through a pipe: reading blocks until it moves, so nothing sleeps.
"""

import os
import queue
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from searcher.workers.base import NoWorkers, Workers
from searcher.workers.in_process import Gate, InProcess
from searcher.workers.process_pool import MOST_FRUITLESS, SHORT_SPINS, ProcessPool

PATIENCE_S = 30.0

COUNTING = """
import os, sys
sys.stdin.readline()
out = os.open(sys.argv[1], os.O_WRONLY)
while True:
    os.write(out, b"x")
"""


class Crew(Protocol):
    """A crew under test, and what its builders report."""

    workers: Workers

    def wait_for_progress(self) -> None: ...

    def is_silent(self) -> bool: ...


class Reports:
    """A named pipe that builders write to for as long as they compute."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.reading = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def drain(self) -> None:
        try:
            while os.read(self.reading, 65_536):
                pass
        except BlockingIOError:
            pass

    def wait(self) -> None:
        ready, _, _ = select.select([self.reading], [], [], PATIENCE_S)
        assert ready, "the builder does not move"

    def close(self) -> None:
        os.close(self.reading)


class Processes:
    """Two processes; ``posted`` holds what they ask the owner's thread to run."""

    def __init__(self, folder: Path, script: str = COUNTING) -> None:
        self.reports = Reports(folder / "reports")
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self.ended: list[tuple[str, str]] = []
        self.worked = True
        self.admitted = 0
        self.workers = ProcessPool(
            [sys.executable, "-S", "-c", script, str(self.reports.path)], 2, folder / "logs",
            admit=self._admit, ended=self._ended, post=self.posted.put)

    def _admit(self, name: str) -> tuple[str, str]:
        self.admitted += 1
        return f"agent-{self.admitted}", f"secret-{self.admitted}"

    def _ended(self, agent: str, why: str) -> bool:
        self.ended.append((agent, why))
        return self.worked

    def wait_for_progress(self) -> None:
        self.reports.drain()
        self.reports.wait()

    def is_silent(self) -> bool:
        self.reports.drain()
        return all(
            psutil.Process(child.process.pid).status() == psutil.STATUS_STOPPED
            for child in self.workers._children.values())

    def close(self) -> None:
        self.workers.stop()
        self.reports.close()


class Threads:
    """Two threads that count in memory."""

    def __init__(self, folder: Path) -> None:
        self.steps: queue.Queue[int] = queue.Queue(maxsize=2)
        self.workers = InProcess(self._loop, 2)

    def _loop(self, gate: Gate) -> None:
        while True:
            gate.checkpoint()
            with gate.idle():
                try:
                    self.steps.put(1, timeout=0.01)
                except queue.Full:
                    continue

    def wait_for_progress(self) -> None:
        for _ in range(4):
            self.steps.get(timeout=PATIENCE_S)

    def is_silent(self) -> bool:
        return self.workers.pause()

    def close(self) -> None:
        self.workers.stop()


CREWS: list[Callable[[Path], Processes | Threads]] = [Processes, Threads]


@pytest.fixture(params=CREWS, ids=lambda crew: crew.__name__)
def crew(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes | Threads]:
    made = request.param(tmp_path)
    yield made
    made.close()


def paused(workers: Workers) -> None:
    while not workers.pause():
        pass


def test_nothing_runs_before_the_start(crew: Crew) -> None:
    assert crew.workers.alive_count() == 0
    assert crew.workers.broken is None
    assert crew.workers.pause()
    crew.workers.resume()


def test_pause_and_resume(crew: Crew) -> None:
    crew.workers.start()
    assert crew.workers.alive_count() == 2
    crew.wait_for_progress()
    paused(crew.workers)
    assert crew.is_silent()
    assert crew.workers.pause(), "pausing twice is pausing"
    assert crew.workers.alive_count() == 2
    crew.workers.resume()
    crew.workers.resume()
    crew.wait_for_progress()


def test_stop_leaves_nobody(crew: Crew) -> None:
    crew.workers.start()
    crew.wait_for_progress()
    crew.workers.stop()
    assert crew.workers.alive_count() == 0


def test_a_paused_crew_can_be_stopped(crew: Crew) -> None:
    crew.workers.start()
    crew.wait_for_progress()
    paused(crew.workers)
    crew.workers.stop()
    assert crew.workers.alive_count() == 0


def test_no_workers_keep_the_contract() -> None:
    nobody: Workers = NoWorkers()
    nobody.start()
    assert nobody.pause() and nobody.alive_count() == 0 and nobody.broken is None
    nobody.resume()
    nobody.stop()


def test_dead_processes_are_replaced_with_a_new_secret(tmp_path: Path) -> None:
    crew = Processes(tmp_path)
    crew.workers.start()
    crew.wait_for_progress()
    victim = next(iter(crew.workers._children.values()))
    victim.process.kill()
    crew.posted.get(timeout=PATIENCE_S)()
    assert crew.ended == [(victim.agent, "signal 9 (SIGKILL)")]
    assert crew.workers.alive_count() == 2 and crew.admitted == 3
    crew.close()


def test_a_replacement_in_a_quiet_window_is_quiet(tmp_path: Path) -> None:
    crew = Processes(tmp_path)
    crew.workers.start()
    crew.wait_for_progress()
    paused(crew.workers)
    next(iter(crew.workers._children.values())).process.kill()
    crew.posted.get(timeout=PATIENCE_S)()
    paused(crew.workers)
    assert crew.is_silent()
    crew.close()


def test_builders_that_cannot_work_are_given_up_with_their_last_words(tmp_path: Path) -> None:
    crew = Processes(tmp_path, "import sys; sys.exit('no torch here')")
    crew.worked = False
    crew.workers.start()
    while crew.workers.broken is None:
        crew.posted.get(timeout=PATIENCE_S)()
    assert len(crew.ended) == MOST_FRUITLESS
    assert "exit code 1" in crew.workers.broken and "no torch here" in crew.workers.broken
    crew.close()


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    crew = Processes(tmp_path)
    crew.workers._command = (str(tmp_path / "missing"),)
    crew.workers.start()
    assert crew.workers.broken is not None and "missing" in crew.workers.broken
    assert crew.workers.alive_count() == 0
    crew.close()


def test_threads_of_a_builder_spin_shortly_unless_told_otherwise(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = COUNTING.replace("while True:", f"""
for name in {list(SHORT_SPINS)}:
    sys.stderr.write(name + "=" + os.environ[name] + ";")
sys.stderr.flush()
while True:""")
    for given in (None, "7"):
        folder = tmp_path / str(given)
        folder.mkdir()
        if given is not None:
            monkeypatch.setenv("GOMP_SPINCOUNT", given)
        crew = Processes(folder, script)
        crew.workers.start()
        crew.wait_for_progress()
        crew.close()
        expected = given or SHORT_SPINS["GOMP_SPINCOUNT"]
        said = {log.read_text() for log in (folder / "logs").iterdir()} - {""}
        assert said == {f"GOMP_SPINCOUNT={expected};"}


def test_what_a_builder_started_stops_with_it(tmp_path: Path) -> None:
    script = COUNTING.replace("import os, sys", "import os, sys; os.fork()")
    crew = Processes(tmp_path, script)
    crew.workers.start()
    crew.wait_for_progress()
    paused(crew.workers)
    for child in crew.workers._children.values():
        for member in psutil.Process(child.process.pid).children(recursive=True):
            assert member.status() == psutil.STATUS_STOPPED
    crew.close()


def test_the_last_threads_error_breaks_the_crew() -> None:
    def loop(gate: Gate) -> None:
        raise RuntimeError("the disk is gone")

    workers = InProcess(loop)
    workers.start()
    for thread in workers._threads:
        thread.join(PATIENCE_S)
    assert workers.broken is not None and "the disk is gone" in workers.broken
    workers.stop()


OWNER = """
import os, signal, sys
from pathlib import Path
import psutil
from searcher.workers.process_pool import ProcessPool

# Whoever runs the tests may have had SIGHUP ignored (nohup), and children inherit that. Real
# builders look for their parent themselves when they go on; this one can only be told.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
pool = ProcessPool(sleeper, 1, Path(sys.argv[1]), admit=lambda name: ("agent", "secret"),
                   ended=lambda agent, why: True, post=lambda run: None)
pool.start()
assert pool.pause()
sys.stdout.write(str(psutil.Process().children()[0].pid))
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_builder_that_was_stopped_before_it_began_ends_with_its_owner(tmp_path: Path) -> None:
    """It had no time yet to ask for a signal when its parent dies."""
    owner = subprocess.run([sys.executable, "-c", OWNER, str(tmp_path)], capture_output=True,
                           text=True, timeout=PATIENCE_S, check=False)
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    try:
        orphan = psutil.Process(int(owner.stdout))
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs([orphan], PATIENCE_S)
    for one in alive:
        one.kill()
    assert alive == []
