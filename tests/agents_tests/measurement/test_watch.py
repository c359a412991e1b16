"""A device that tells its clocks and temperatures in files; the clock is made up."""

import pytest

from agents.measurement.watch import DeviceMonitor, cool_down, power_mode
from agents.platform.conditions import (
    Conditions,
    ConditionsSnapshot,
    conditions_between,
    conditions_now,
)
from agents.platform.environment import CpuTicks, machine_state
from agents.platform.sysfs import SystemTree
from agents.protocol import MeasurePlan, PowerMode, ProfileFacts, decode

PLAN = MeasurePlan(name="test", block_s=0.004, min_blocks=2, min_s=0.0, max_s=2.0, gate=0.06,
                   fresh_session_every_s=0.5, warmup_s=0.01, start_below_c=50.0, cool_down_s=20.0)


class Board:
    """Cools by a degree with every second that somebody waits."""

    def __init__(self, folder, celsius=40.0, clocks=(1000000, 2000000)):
        self.folder, self.now_s, self.celsius = folder, 0.0, celsius
        for number, clock in enumerate(clocks):
            self.write("sys/devices/system/cpu/cpufreq/policy{}/scaling_cur_freq".format(number),
                       clock)
        self.wait(0.0)

    def write(self, path, content):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text("{}\n".format(content))

    def clock(self):
        return self.now_s

    def wait(self, seconds):
        self.now_s += seconds
        self.celsius -= seconds
        self.write("sys/class/thermal/thermal_zone0/temp", int(self.celsius * 1000))

    def cool(self, stop=lambda: False, ignored=(), **plan):
        return cool_down(SystemTree(str(self.folder)), PLAN._replace(**plan), self.clock, self.wait,
                         stop,
                         ignored)


def test_it_waits_until_the_device_is_cool(tmp_path):
    cooled = Board(tmp_path, celsius=57.5).cool()
    assert cooled.enough() and 7.5 <= cooled.waited_s <= 8.5


def test_it_waits_at_most_as_long_as_the_plan_says(tmp_path):
    cooled = Board(tmp_path, celsius=90.0).cool()
    assert not cooled.enough() and cooled.waited_s == 20.0 and cooled.hottest_c == 70.0


@pytest.mark.parametrize("changes", [{"celsius": 49.0}, {"celsius": 90.0, "start_below_c": 0.0}])
def test_a_cool_device_or_a_plan_without_a_limit_waits_for_nothing(tmp_path, changes):
    board = Board(tmp_path, changes.pop("celsius"))
    cooled = board.cool(**changes)
    assert cooled.enough() and board.now_s == 0.0


def test_a_zone_that_the_profile_ignores_is_not_read(tmp_path):
    board = Board(tmp_path, celsius=40.0)
    board.write("sys/class/thermal/thermal_zone1/temp", 99000)
    board.write("sys/class/thermal/thermal_zone1/type", "Stuck")
    assert not board.cool(cool_down_s=0.0).enough()
    assert board.cool(ignored=["Stuck"]).enough() and board.now_s == 0.0
    watch = DeviceMonitor(SystemTree(str(tmp_path)), board.clock,
                          ProfileFacts("x", ignored_zones=["Stuck"]))
    watch()
    assert watch.observations().hottest_c == 40.0
    assert machine_state(SystemTree(str(tmp_path)),
                        ["Stuck"]).temperatures_c == {"thermal_zone0": 40.0}


def test_cancelling_ends_the_wait(tmp_path):
    board = Board(tmp_path, celsius=90.0)
    board.cool(stop=lambda: board.now_s >= 3)
    assert board.now_s == 3.0


def test_a_device_without_sensors_does_not_wait(tmp_path):
    waited = []
    assert cool_down(SystemTree(str(tmp_path)), PLAN, lambda: 0.0, waited.append,
                     lambda: False).enough()
    assert waited == []


def test_the_fastest_clock_is_read_periodically(tmp_path):
    board = Board(tmp_path)
    watch = DeviceMonitor(SystemTree(str(tmp_path)), board.clock)
    for clock in (2000000, 1200000):
        board.write("sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq", clock)
        for _ in range(3):
            board.wait(0.075)
            watch()
    assert watch.observations().clocks_khz == [2000000, 1200000]  # six calls, two looks
    assert watch.observations().hottest_c == pytest.approx(39.925, abs=0.01)


def test_while_idle_only_the_temperature_is_read(tmp_path):
    board = Board(tmp_path)
    board.write("sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq", 400000)
    watch = DeviceMonitor(SystemTree(str(tmp_path)), board.clock)
    watch(working=False)
    assert watch.observations().clocks_khz == [] and watch.observations().hottest_c is not None


@pytest.mark.parametrize("path, seen", [
    ("/sys/devices/g/devfreq/g/cur_freq", [1300]), ("/sys/devices/none", []), ("/proc/uptime", []),
    ("/sys/devices/gpu/cur_freq", []), ("/sys/../proc/uptime", [])])
def test_the_clock_of_the_gpu_is_a_known_one_that_the_profile_names(tmp_path, path, seen):
    board = Board(tmp_path)
    board.write("sys/devices/g/devfreq/g/cur_freq", 1300500)
    board.write("sys/devices/gpu/cur_freq", 7000)
    board.write("proc/uptime", 7000)
    watch = DeviceMonitor(SystemTree(str(tmp_path)), board.clock, ProfileFacts("x", gpu_clock=path))
    watch()
    assert watch.observations().gpu_khz == seen


MODES = [PowerMode("MAXN", 0, 2035000, 1300500), PowerMode("MAXQ", 1, 1200000, 850000),
         PowerMode("again", 2, 1200000, 1120000), PowerMode("uncapped", 3)]


@pytest.mark.parametrize("status, limits_khz, name", [
    ("pmode:0002 fmode:cool", (345600, 1190400), "again"), ("pmode:0007", (2035200,), None),
    ("pmode:0000", (), "MAXN"), ("pmode:0003", (2035200,), "uncapped"),
    ("pmode:0001", (960000,), None), ("pmode:0000", (1200000,), None),
    (None, (1200000, 2035200), "MAXN"), (None, (1200000,), None), (None, (), None),
    ("nothing", (2035200,), "MAXN")])
def test_the_power_mode_is_nvpmodels_unless_the_limit_of_the_clock_is_anothers(
        tmp_path, status, limits_khz, name):
    board, tree = Board(tmp_path), SystemTree(str(tmp_path))
    if status is not None:
        board.write("var/lib/nvpmodel/status", status)
    for number, limit_khz in enumerate(limits_khz):
        board.write("sys/devices/system/cpu/cpufreq/policy{}/scaling_max_freq".format(number),
                    limit_khz)
    found = power_mode(tree, machine_state(tree), MODES)
    assert (None if found is None else found.name) == name


def test_a_machine_without_clocks_has_no_observations(tmp_path):
    watch = DeviceMonitor(SystemTree(str(tmp_path)), iter((0.0, 9.0)).__next__)
    watch()
    assert watch.observations() == ([], None, [])


def test_conditions_are_differences():
    first = ConditionsSnapshot(10.0, 1.0, 1.0, CpuTicks(1000, 100, 0), 0)
    last = ConditionsSnapshot(12.0, 2.5, 2.5, CpuTicks(1400, 500, 40), 500000)
    found = conditions_between(first, last)
    assert found == (2.0, 0.75, pytest.approx(1.25), 0.1, 0.25)
    assert decode(Conditions, dict(found._asdict(), later=1)) == found


def test_values_that_a_system_does_not_report_are_none(tmp_path):
    blank = ConditionsSnapshot(1.0, None, 0.0, None, None)
    assert conditions_between(blank, blank._replace(wall_s=3.0)) == Conditions(2.0)
    assert conditions_between(blank, blank) == Conditions(0.0)
    assert conditions_now(SystemTree(str(tmp_path))).ticks is None
    assert decode(Conditions, {"wall_s": 1.0}) == Conditions(1.0)


def test_pressure_is_read_from_its_file(tmp_path):
    board = Board(tmp_path)
    board.write("proc/pressure/cpu", "some avg10=0.1 avg60=0 avg300=0 total=42\nfull total=7")
    assert conditions_now(SystemTree(str(tmp_path))).pressure_us == 42
