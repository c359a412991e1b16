"""The contract of worker pools, over every pool of the registry, and what single pools add."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fleetfront_testing.worker_pools import COUNTING, PATIENCE_S, Crew, WorkerPoolContract
from searcher.workers.base import NoWorkers
from searcher.workers.gate import PauseGate
from searcher.workers.in_process import InProcess
from searcher.workers.process_pool import (
    KEPT_MEMORY,
    MOST_EARLY_EXITS,
    SHORT_SPINS,
    ProcessPool,
)
from searcher.workers.registry import POOLS


@pytest.mark.parametrize("implementation", [POOLS.get(name) for name in POOLS.names()],
                         ids=lambda cls: cls.name)
class TestWorkerPools(WorkerPoolContract):
    pass


def processes(folder: Path, script: str = COUNTING,
              command: tuple[str, ...] | None = None) -> Crew:
    return Crew(ProcessPool, folder, script, command)


def test_no_workers_keep_the_contract() -> None:
    nobody = NoWorkers()
    nobody.start()
    assert nobody.pause() and nobody.alive_count() == 0 and nobody.broken is None
    nobody.resume()
    nobody.stop()


def test_dead_processes_are_replaced_with_a_new_secret(tmp_path: Path) -> None:
    crew = processes(tmp_path)
    crew.pool.start()
    crew.wait_for_progress()
    victim = next(iter(crew.pool._children.values()))
    victim.process.kill()
    crew.run_posted()
    assert crew.ended == [(victim.agent, "signal 9 (SIGKILL)")]
    assert crew.pool.alive_count() == 2 and len(crew.admitted) == 3
    crew.close()


def test_a_replacement_in_a_quiet_window_is_quiet(tmp_path: Path) -> None:
    crew = processes(tmp_path)
    crew.pool.start()
    crew.wait_for_progress()
    crew.pause()
    next(iter(crew.pool._children.values())).process.kill()
    crew.run_posted()
    crew.pause()
    assert crew.is_silent()
    crew.close()


def test_builders_that_cannot_work_are_given_up_with_their_last_words(tmp_path: Path) -> None:
    crew = processes(tmp_path, "import sys; sys.exit('no torch here')")
    crew.worked = False
    crew.pool.start()
    while crew.pool.broken is None:
        crew.run_posted()
    assert len(crew.ended) == MOST_EARLY_EXITS
    assert "exit code 1" in crew.pool.broken and "no torch here" in crew.pool.broken
    crew.close()


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    crew = processes(tmp_path, command=(str(tmp_path / "missing"),))
    crew.pool.start()
    assert crew.pool.broken is not None and "missing" in crew.pool.broken
    assert crew.pool.alive_count() == 0
    crew.close()


def test_a_builder_spins_shortly_and_keeps_memory_unless_told_otherwise(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = COUNTING.replace("while True:", f"""
# In one piece: a builder may be stopped while another one has made progress.
names = {[*SHORT_SPINS, *KEPT_MEMORY]}
os.write(2, "".join(name + "=" + os.environ[name] + ";" for name in names).encode())
while True:""")
    for given in (None, "7"):
        folder = tmp_path / str(given)
        if given is not None:
            monkeypatch.setenv("GOMP_SPINCOUNT", given)
        crew = processes(folder, script)
        crew.pool.start()
        crew.wait_for_progress()
        crew.close()
        environment = SHORT_SPINS | KEPT_MEMORY | ({"GOMP_SPINCOUNT": given} if given else {})
        said = {log.read_text() for log in (folder / "logs").iterdir()} - {""}
        assert said == {"".join(f"{name}={value};" for name, value in environment.items())}


def test_what_a_builder_started_stops_with_it(tmp_path: Path) -> None:
    script = COUNTING.replace("import os, sys", "import os, sys; os.fork()")
    crew = processes(tmp_path, script)
    crew.pool.start()
    crew.wait_for_progress()
    crew.pause()
    for child in crew.pool._children.values():
        for member in psutil.Process(child.process.pid).children(recursive=True):
            assert member.status() == psutil.STATUS_STOPPED
    crew.close()


def test_the_last_threads_error_breaks_the_pool(tmp_path: Path) -> None:
    def loop(gate: PauseGate, secret: str) -> None:
        raise RuntimeError("the disk is gone")

    crew = Crew(InProcess, tmp_path, count=1, loop=loop)
    crew.pool.start()
    crew.run_posted()
    assert crew.ended == [("agent-1", "RuntimeError: the disk is gone")]
    assert crew.pool.broken is not None and "the disk is gone" in crew.pool.broken
    crew.close()


OWNER = """
import os, signal, sys
from pathlib import Path
import psutil
from searcher.workers.base import Builders
from searcher.workers.process_pool import ProcessPool

# SIGHUP may be ignored where the tests run (nohup), and children inherit that. Real builders
# check their parent themselves when they continue; this one needs the signal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sleeper = (sys.executable, "-c", "import time; time.sleep(600)")
pool = ProcessPool(Builders(
    1, sleeper, lambda gate, secret: None, Path(sys.argv[1]),
    admit=lambda name: ("agent", "secret"), ended=lambda agent, why: True,
    post=lambda run: None))
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
