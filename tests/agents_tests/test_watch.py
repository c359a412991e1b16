"""A device that tells its clocks and temperatures in files; the clock is made up."""

import pytest

from agents.conditions import Conditions, Look, between, conditions_of, look
from agents.protocol import MeasurePlan
from agents.sysfs import Tree
from agents.watch import Watch, cool_down

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

    def cool(self, stop=lambda: False, **plan):
        return cool_down(Tree(str(self.folder)), PLAN._replace(**plan), self.clock, self.wait, stop)


def test_it_waits_until_the_device_is_cool(tmp_path):
    cooled = Board(tmp_path, celsius=57.5).cool()
    assert cooled.enough() and 7.5 <= cooled.waited_s <= 8.5


def test_it_waits_no_longer_than_the_plan_says_and_tells(tmp_path):
    cooled = Board(tmp_path, celsius=90.0).cool()
    assert not cooled.enough() and cooled.waited_s == 20.0 and cooled.hottest_c == 70.0


@pytest.mark.parametrize("changes", [{"celsius": 49.0}, {"celsius": 90.0, "start_below_c": 0.0}])
def test_a_cool_device_or_a_plan_without_a_limit_waits_for_nothing(tmp_path, changes):
    board = Board(tmp_path, changes.pop("celsius"))
    cooled = board.cool(**changes)
    assert cooled.enough() and board.now_s == 0.0


def test_cancelling_ends_the_wait(tmp_path):
    board = Board(tmp_path, celsius=90.0)
    board.cool(stop=lambda: board.now_s >= 3)
    assert board.now_s == 3.0


def test_a_device_without_sensors_is_not_waited_for(tmp_path):
    waited = []
    assert cool_down(Tree(str(tmp_path)), PLAN, lambda: 0.0, waited.append,
                     lambda: False).enough()
    assert waited == []


def test_the_fastest_clock_is_seen_now_and_then(tmp_path):
    board = Board(tmp_path)
    watch = Watch(Tree(str(tmp_path)), board.clock)
    for clock in (2000000, 1200000):
        board.write("sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq", clock)
        for _ in range(3):
            board.wait(0.075)
            watch()
    assert watch.seen().clocks_khz == [2000000, 1200000]  # six calls, two looks
    assert watch.seen().hottest_c == pytest.approx(39.925, abs=0.01)


def test_a_machine_without_clocks_has_been_seen_nothing_of(tmp_path):
    watch = Watch(Tree(str(tmp_path)), iter((0.0, 9.0)).__next__)
    watch()
    assert watch.seen() == ([], None)


def test_conditions_are_differences():
    first = Look(10.0, 1.0, 1.0, {"total": 1000, "busy": 100, "steal": 0}, 0)
    last = Look(12.0, 2.5, 2.5, {"total": 1400, "busy": 500, "steal": 40}, 500000)
    found = between(first, last)
    assert found == (2.0, 0.75, pytest.approx(1.25), 0.1, 0.25)
    assert conditions_of(dict(found._asdict(), later=1)) == found


def test_what_a_system_does_not_tell_is_none(tmp_path):
    blank = Look(1.0, None, 0.0, None, None)
    assert between(blank, blank._replace(wall_s=3.0)) == Conditions(2.0)
    assert between(blank, blank) == Conditions(0.0)
    assert look(Tree(str(tmp_path))).ticks is None
    assert conditions_of({"wall_s": 1.0}) == Conditions(1.0)


def test_pressure_is_read_from_its_file(tmp_path):
    board = Board(tmp_path)
    board.write("proc/pressure/cpu", "some avg10=0.1 avg60=0 avg300=0 total=42\nfull total=7")
    assert look(Tree(str(tmp_path))).pressure_us == 42
