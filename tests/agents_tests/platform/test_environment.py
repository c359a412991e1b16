import os
import shutil

import pytest

from agents.platform.environment import (
    CpuTicks,
    MachineState,
    cpu_ticks,
    machine_identity,
    machine_state,
    measurement_environment,
    steal_fraction,
    was_throttled,
)
from agents.platform.sysfs import SystemTree
from tests.agents_tests.fakes import ROOT

BOARD = os.path.join(ROOT, "tests", "sysfs", "two_cores")


@pytest.fixture
def board(tmp_path):
    shutil.copytree(BOARD, str(tmp_path / "root"))
    return tmp_path / "root"


def test_identity_is_read_from_the_tree():
    who = machine_identity(SystemTree(BOARD))
    assert who.board == "Test board" and who.cpu_model == "Test CPU @ 1 GHz"
    assert who.memory_bytes == 2048 * 1024 and who.kernel == "4.9.337"


def test_state_is_read_from_the_tree():
    now = machine_state(SystemTree(BOARD))
    assert now.governor == "schedutil" and now.clocks_khz == [1000000, 1100000]
    assert now.temperatures_c == {"MCPU-therm": 41.5}
    assert now.throttle_count == 7
    assert now.load_1min == 0.5 and now.pressure_cpu_avg10 == 1.25
    assert now.cpu_ticks == CpuTicks(total=1000, busy=150, steal=40)


def test_different_governors_are_both_named(board):
    (board / "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor").write_text("powersave\n")
    assert machine_state(SystemTree(str(board))).governor == "powersave,schedutil"


def test_a_machine_without_any_file_is_no_error(tmp_path):
    tree = SystemTree(str(tmp_path))
    who, now = machine_identity(tree), machine_state(tree)
    assert who.board is None and who.memory_bytes is None and who.kernel
    assert now == MachineState()
    assert steal_fraction(now, now) is None and not was_throttled(now, now)


@pytest.mark.parametrize("path, content", [
    ("proc/stat", "cpu 1 2\n"), ("proc/stat", "cpu a b c d e f g h\n"), ("proc/loadavg", "x"),
    ("proc/pressure/cpu", "some avg10=x"), ("proc/meminfo", "MemTotal: much\n"),
])
def test_files_of_another_form_are_unknown(board, path, content):
    (board / path).write_text(content)
    tree = SystemTree(str(board))
    known = {"proc/stat": cpu_ticks(tree), "proc/loadavg": machine_state(tree).load_1min,
             "proc/pressure/cpu": machine_state(tree).pressure_cpu_avg10,
             "proc/meminfo": machine_identity(tree).memory_bytes}
    assert known[path] is None


def test_steal_and_throttling_are_differences():
    before = MachineState(cpu_ticks=CpuTicks(100, 50, 10), throttle_count=1)
    after = MachineState(cpu_ticks=CpuTicks(200, 100, 35), throttle_count=2)
    assert steal_fraction(before, after) == 0.25
    assert was_throttled(before, after) and not was_throttled(after, after)


def test_the_key_is_equal_where_quiet_levels_may_be_shared():
    def key(governor, version, load, power_mode=None):
        who = machine_identity(SystemTree(BOARD))
        before = machine_state(SystemTree(BOARD))._replace(
            governor=governor, load_1min=load, power_mode=power_mode)
        return measurement_environment(who, {"onnxruntime": version}, before, before)["key"]

    assert key("schedutil", "1.0", 0.1) == key("schedutil", "1.0", 0.9)
    assert len({key("schedutil", "1.0", 0), key("performance", "1.0", 0),
                key("schedutil", "1.1", 0), key("schedutil", "1.0", 0, 2),
                key("schedutil", "1.0", 0, 0)}) == 5


def test_the_tree_reads_what_is_there_and_nothing_else(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("12\n")
    (tmp_path / "a" / "y").write_text("\n")
    tree = SystemTree(str(tmp_path))
    assert tree.paths("/a/*") == ["/a/x", "/a/y"]
    assert tree.integer("/a/x") == 12 and tree.text("/a/y") is None
    assert tree.integer("/b") is None and tree.text("/a") is None
