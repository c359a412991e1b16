"""Parts of the chaos benchmark: plan, clock, disk, late commits, quarantine."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos import plan
from benchmarks.chaos.clock import Clock
from benchmarks.chaos.disk import SmallDisk
from benchmarks.chaos.models import built, evaluation
from benchmarks.chaos.proxy import FAULTS
from benchmarks.chaos.quarantine import QuarantineRelease
from searcher.client.records import Device

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("faults", [20, 80, 333, 2000])
def test_the_plan_has_the_requested_number_of_faults(faults: int) -> None:
    found = plan.counts(faults)
    assert sum(found.values()) == faults
    assert min(found.values()) >= 1


def test_two_thousand_faults_kill_the_coordinator_three_hundred_times() -> None:
    assert plan.counts(2000)[plan.KILL] >= 300


def test_the_order_depends_on_the_seed_only() -> None:
    first = plan.order(200, 1, plan.SHARES)
    assert first == plan.order(200, 1, plan.SHARES) != plan.order(200, 2, plan.SHARES)
    both = Counter(first) + Counter(plan.order(200, 2, FAULTS))
    assert both == Counter(plan.counts(200))


def test_only_the_process_with_the_clock_sees_it_jump(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    if not clock.works:
        pytest.skip("no C compiler here")
    script = ("import sys, time, datetime\n"
              "print(time.time(), datetime.datetime.now().timestamp(), flush=True)\n"
              "sys.stdin.readline()\nprint(time.time(), time.monotonic())")
    before_s, steady_s = time.time(), time.monotonic()
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True,
                          stdout=subprocess.PIPE, env={**os.environ, **clock.environment}) as child:
        assert child.stdout is not None
        first = [float(word) for word in child.stdout.readline().split()]
        clock.jump_to(-7200.0)
        output, _ = child.communicate("go\n")
    wall_s, monotonic_s = (float(word) for word in output.split())
    after_s = time.time()
    assert all(before_s <= time_s <= after_s for time_s in first)
    assert before_s - 7200 <= wall_s <= after_s - 7200
    assert steady_s <= monotonic_s <= time.monotonic()


def test_a_small_disk_fills_and_is_made_read_only(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk", 4 << 20)
    try:
        if not disk.mounted:
            pytest.skip("nothing can be mounted here")
        file = disk.folder / "file"
        disk.fill()
        with pytest.raises(OSError, match="No space"):
            file.write_bytes(b"x" * 65536)
        disk.free()
        file.write_bytes(b"x" * 65536)
        assert disk.read_only(True)
        with pytest.raises(OSError, match="Read-only"):
            file.write_bytes(b"y")
        assert disk.read_only(False)
        file.write_bytes(b"y")
    finally:
        disk.close()


def test_the_built_file_depends_on_the_payload_only() -> None:
    payload = {"task": "t", "recipe": [{"strategy": "svd", "layers": "fc"}], "seed": 0}
    assert built("compress", payload) == built("compress", dict(payload))
    short, full = (built("train", {**payload, "fidelity": f}) for f in ("short", "full"))
    assert short[1]["sha256"] != full[1]["sha256"]
    assert short[1]["evaluation"]["value"] < full[1]["evaluation"]["value"]
    assert evaluation(0.75, 3)["n"] == 200 and evaluation(0.75, 3)["value"] == 0.75


LATE = """
import asyncio, os, signal, sys
from pathlib import Path
from benchmarks.chaos.late_commit import LATE_S, delay_commits
if sys.argv[2] == "defective":
    delay_commits()
from searcher.client.records import Device
from searcher.ledger.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    def put(key):
        with store.atomic() as db:
            db.execute("INSERT INTO meta VALUES (?, '')", [key])
    put("early")
    await asyncio.sleep(2 * LATE_S)
    put("late")
    put("later")
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize(("program", "kept"), [
    ("shipped", {"early", "late", "later"}), ("defective", {"early"})])
def test_late_commits_lose_acknowledged_writes(
        tmp_path: Path, program: str, kept: set[str]) -> None:
    ledger = tmp_path / "ledger.db"
    done = subprocess.run([sys.executable, "-c", LATE, str(ledger), program], cwd=REPOSITORY,
                          check=False)
    assert done.returncode == -signal.SIGKILL
    with sqlite3.connect(ledger) as db:
        found = {row[0] for row in db.execute("SELECT key FROM meta")}
    db.close()
    assert found & {"early", "late", "later"} == kept


def test_only_quarantined_devices_are_released() -> None:
    states = {"board-1": "quarantined", "board-2": "active", "board-3": "drained"}

    class Lab:
        def devices(self) -> list[Device]:
            return [Device(name, None, {}, {}, 0, state, 1.0, None, 0, None)
                    for name, state in states.items()]

        def set_device_state(self, name: str, state: str) -> None:
            states[name] = state

    lab: Any = Lab()
    quarantine = QuarantineRelease(lab)
    quarantine.release()
    quarantine.release()
    assert states == {"board-1": "active", "board-2": "active", "board-3": "drained"}
    assert quarantine.released == {"board-1": 1}
