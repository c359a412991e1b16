"""Real processes: the ``fleetfront`` command on a campaign file, and what its ledger says."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from searcher.errors import LedgerError
from searcher.ledger.read_only import open_ledger

REPOSITORY = Path(__file__).parents[2]
FLEETFRONT = str(Path(sys.executable).with_name("fleetfront"))
DEADLINE_S = 150.0
ENDED = ("complete", "pruned", "failed")

CAMPAIGN = """
name = "{name}"
task = "tests.system.tiny_task:{task}"
seed = {seed}
builders = 1
[budget]
candidates = {candidates}
wall_minutes = 3
[constraints]
quality_drop = 0.9
[measurement]
plan = {{min_blocks = 6, max_s = 1.0, block_s = 0.0005, gate = 9.0, warmup_s = 0.01}}
[search]
sampler = "random"
strategies = [{strategies}]
{options}
"""


def campaign_file(folder: Path, task: str, candidates: int, strategies: str, seed: int = 0,
                  options: str = "") -> Path:
    """A campaign that measures briefly and lets a busy machine pass; ``options`` are further lines
    of its table ``[search]``."""
    file = folder / f"{task}.toml"
    listed = ", ".join(f'"{name}"' for name in strategies.split())
    file.write_text(CAMPAIGN.format(name=f"tiny-{task}", task=task, candidates=candidates,
                                    strategies=listed, seed=seed, options=options))
    return file


def environment() -> dict[str, str]:
    # Threads that wait must not spin: two of them share a core here.
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "200"}


def fleetfront(*arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run([FLEETFRONT, *map(str, arguments)], cwd=cwd, env=environment(),
                          capture_output=True, text=True, timeout=DEADLINE_S, check=False)


class Running:
    """A command as a process tree that is killed at the latest on exit."""

    def __init__(self, *arguments: object, cwd: Path = REPOSITORY) -> None:
        self.process = subprocess.Popen(
            [FLEETFRONT, *map(str, arguments)], cwd=cwd, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self.process.communicate()

    def family(self) -> list[psutil.Process]:
        """The command and all that it started, directly or not."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """SIGKILL for every process of the tree."""
        for member in self.family():
            try:
                member.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue

    def until(self, state: Callable[[], bool]) -> None:
        """Poll until ``state()``, which may read a ledger that does not exist yet; the command's
        output in the error when it ends before."""
        deadline = time.monotonic() + DEADLINE_S
        while not _holds(state):
            if self.process.poll() is not None:
                raise AssertionError(f"ended early: {self.process.communicate()[0]}")
            assert time.monotonic() < deadline, "the state was not reached"
            time.sleep(0.02)


def _holds(state: Callable[[], bool]) -> bool:
    try:
        return state()
    except LedgerError:
        return False


def until_gone(members: list[psutil.Process]) -> None:
    """Poll until none of the processes runs."""
    _, alive = psutil.wait_procs(members, timeout=30)
    assert not alive, f"still running: {alive}"


def rows(directory: Path, query: str) -> list[dict]:
    """What ``query`` gives on the folder's ledger. Raises LedgerError when there is none."""
    with open_ledger(directory / "ledger.db") as db:
        return [dict(row) for row in db.query(query)]


def ended_trials(directory: Path) -> list[dict]:
    return rows(directory, "SELECT * FROM trials WHERE finished_s IS NOT NULL ORDER BY id")
