import os
import shutil

import pytest

from agents.platform.environment import (
    cpu_ticks,
    device_identity,
    device_state,
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
    who = device_identity(SystemTree(BOARD))
    assert who["board"] == "Test board" and who["cpu_model"] == "Test CPU @ 1 GHz"
    assert who["memory_bytes"] == 2048 * 1024 and who["kernel"] == "4.9.337"


def test_state_is_read_from_the_tree():
    now = device_state(SystemTree(BOARD))
    assert now["governor"] == "schedutil" and now["clocks_khz"] == [1000000, 1100000]
    assert now["temperatures_c"] == {"MCPU-therm": 41.5}
    assert now["throttle_count"] == 7
    assert now["load_1min"] == 0.5 and now["pressure_cpu_avg10"] == 1.25
    assert now["cpu_ticks"] == {"total": 1000, "busy": 150, "steal": 40}


def test_cores_of_two_minds_are_both_named(board):
    (board / "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor").write_text("powersave\n")
    assert device_state(SystemTree(str(board)))["governor"] == "powersave,schedutil"


def test_a_machine_that_tells_nothing_is_no_error(tmp_path):
    tree = SystemTree(str(tmp_path))
    who, now = device_identity(tree), device_state(tree)
    assert who["board"] is None and who["memory_bytes"] is None and who["kernel"]
    assert now == {"governor": None, "clocks_khz": [], "power_mode": None, "temperatures_c": {},
                   "throttle_count": None, "load_1min": None, "pressure_cpu_avg10": None,
                   "cpu_ticks": None, "charging": None}
    assert steal_fraction(now, now) is None and not was_throttled(now, now)


@pytest.mark.parametrize("path, content", [
    ("proc/stat", "cpu 1 2\n"), ("proc/stat", "cpu a b c d e f g h\n"), ("proc/loadavg", "x"),
    ("proc/pressure/cpu", "some avg10=x"), ("proc/meminfo", "MemTotal: much\n"),
])
def test_files_of_another_form_are_unknown(board, path, content):
    (board / path).write_text(content)
    tree = SystemTree(str(board))
    known = {"proc/stat": cpu_ticks(tree), "proc/loadavg": device_state(tree)["load_1min"],
             "proc/pressure/cpu": device_state(tree)["pressure_cpu_avg10"],
             "proc/meminfo": device_identity(tree)["memory_bytes"]}
    assert known[path] is None


def test_steal_and_throttling_are_differences():
    before = {"cpu_ticks": {"total": 100, "steal": 10}, "throttle_count": 1}
    after = {"cpu_ticks": {"total": 200, "steal": 35}, "throttle_count": 2}
    assert steal_fraction(before, after) == 0.25
    assert was_throttled(before, after) and not was_throttled(after, after)


def test_the_key_is_equal_where_quiet_levels_may_be_shared():
    def key(governor, version, load, power_mode=None):
        who = device_identity(SystemTree(BOARD))
        before = dict(device_state(SystemTree(BOARD)), governor=governor, load_1min=load,
                      power_mode=power_mode)
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
