"""Search processes of a coordinator: start, restart after a crash, end.

The searches of these tests report their start through a named pipe, and the first word of the
campaign's name selects what they do. No test sleeps or reads the clock.
"""

import os
import queue
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from searcher.workers.search_processes import MOST_CRASHES, NoSearches, Searches, SearchProcesses

PATIENCE_S = 30.0
SEARCH = """
import os, signal, sys, time
began, name = sys.argv[1], sys.argv[-1]
if name.startswith("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(began, "w") as pipe:
    pipe.write(name + "\\n")
if name.startswith("crash"):
    os.kill(os.getpid(), signal.SIGSEGV)
if name.startswith("user"):
    sys.exit("task 'x' is unknown")
if name.startswith("defect"):
    sys.stderr.write("Traceback: oh\\n")
    sys.exit(2)
if not name.startswith("done"):
    signal.pause()
"""


class Bench:
    """Search processes, with a record of their calls to the coordinator."""

    def __init__(self, folder: Path, most: int = 2) -> None:
        self.pipe = folder / "began"
        os.mkfifo(self.pipe)
        self._reading = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK)
        self._said = b""
        self.now_s, self.progress = 100.0, 0
        self.ended: list[str] = []
        self.failures: dict[str, str] = {}
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        script = folder / "search.py"
        script.write_text(SEARCH)
        self.searches = SearchProcesses(
            [sys.executable, "-S", str(script), str(self.pipe)], most, folder / "logs", self,
            post=self.posted.put, now_s=lambda: self.now_s)

    def progress_of(self, name: str) -> int:
        return self.progress

    def search_ended(self, name: str) -> None:
        self.ended.append(name)

    def search_failed(self, name: str, reason: str) -> None:
        self.failures[name] = reason

    def began(self, count: int = 1) -> set[str]:
        """Wait for the next ``count`` searches to begin, and return their campaigns."""
        while self._said.count(b"\n") < count:
            ready, _, _ = select.select([self._reading], [], [], PATIENCE_S)
            assert ready, f"only {self._said!r} began"
            self._said += os.read(self._reading, 4096)
        *names, rest = self._said.split(b"\n", count)
        self._said = rest
        return {name.decode() for name in names}

    def hear(self, count: int = 1) -> None:
        for _ in range(count):
            self.posted.get(timeout=PATIENCE_S)()

    def close(self) -> None:
        self.searches.stop()
        os.close(self._reading)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_at_most_the_limit_of_searches_runs_and_the_next_follows(bench: Bench) -> None:
    bench.searches.drive(["a", "done", "c"])
    assert bench.began(2) == {"a", "done"}
    bench.hear()
    assert bench.ended == ["done"] and bench.failures == {}
    bench.searches.drive(["a", "c"])
    assert bench.began() == {"c"} and bench.searches.running() == ["a", "c"]


def test_unwanted_searches_are_ended(bench: Bench) -> None:
    bench.searches.drive(["a", "b"])
    bench.began(2)
    bench.searches.drive(["b"])
    bench.hear()
    assert bench.ended == ["a"] and bench.failures == {} and bench.searches.running() == ["b"]


def test_a_campaign_of_higher_priority_replaces_another(bench: Bench) -> None:
    bench.searches.drive(["a", "b"])
    bench.began(2)
    bench.searches.drive(["urgent", "a", "b"])
    assert bench.searches.running() == ["a", "b"], "no place is free before b has ended"
    bench.hear()
    bench.searches.drive(["urgent", "a", "b"])
    assert bench.began() == {"urgent"} and bench.searches.running() == ["a", "urgent"]


def test_a_search_that_ignores_sigterm_is_killed(bench: Bench) -> None:
    bench.searches.drive(["deaf"])
    bench.began()
    bench.searches.drive([])
    assert bench.posted.empty() and bench.searches.running() == ["deaf"]
    bench.now_s += 3.0
    bench.searches.drive([])
    bench.hear()
    assert bench.searches.running() == []


def test_crashes_are_retried_with_increasing_pauses(bench: Bench) -> None:
    for pause_s in (1.0, 4.0):
        bench.searches.drive(["crash"])
        assert bench.began() == {"crash"}
        bench.hear()
        bench.now_s += 0.9 * pause_s
        bench.searches.drive(["crash"])
        assert bench.searches.running() == []
        bench.now_s += 0.2 * pause_s
    assert bench.failures == {}
    bench.searches.drive(["crash"])
    bench.hear()
    assert "SIGSEGV" in bench.failures["crash"] and f"{MOST_CRASHES} times" in bench.failures[
        "crash"]
    assert bench.ended == ["crash"] * MOST_CRASHES


def test_progress_resets_the_number_of_crashes(bench: Bench) -> None:
    for _ in range(2 * MOST_CRASHES):
        bench.searches.drive(["crash"])
        bench.hear()
        bench.progress += 1
        bench.now_s += 2.0
    assert bench.failures == {}


def test_a_crashing_search_does_not_delay_others(bench: Bench) -> None:
    bench.searches.drive(["crash", "a", "b"])
    bench.began(2)
    bench.hear()
    bench.searches.drive(["crash", "a", "b"])
    assert bench.began() == {"b"} and bench.searches.running() == ["a", "b"]


def test_a_user_error_fails_at_once_with_its_message(bench: Bench) -> None:
    bench.searches.drive(["user"])
    bench.hear()
    assert bench.failures == {"user": "task 'x' is unknown"}


def test_a_defect_is_not_a_user_error(bench: Bench) -> None:
    for _ in range(MOST_CRASHES):
        bench.searches.drive(["defect"])
        bench.hear()
        bench.now_s += 60.0
    assert "exit code 2" in bench.failures["defect"] and "Traceback: oh" in bench.failures["defect"]


def test_a_missing_command_fails_the_campaign(tmp_path: Path, bench: Bench) -> None:
    bench.searches._command = (str(tmp_path / "missing"),)
    bench.searches.drive(["a"])
    assert "missing" in bench.failures["a"] and bench.searches.running() == []


def test_stop_ends_all_searches_and_starts_none(bench: Bench) -> None:
    bench.searches.drive(["a", "deaf"])
    bench.began(2)
    pids = [child.process.pid for child in bench.searches._children.values()]
    bench.searches.stop()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    bench.searches.drive(["a"])
    assert bench.searches.running() == []
    bench.hear(2)
    assert bench.ended == [] and bench.failures == {}, "the coordinator ends too"


def test_no_searches_keep_the_contract() -> None:
    nobody: Searches = NoSearches()
    nobody.drive(["a"])
    nobody.ask_to_stop()
    nobody.stop()
    assert nobody.running() == []
