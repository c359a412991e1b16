"""What every meter keeps, the fake included: each one works, and each one is not there."""

import math
import os

import pytest

from agents.meters.base import Meter, MeterError, PowerMeter, Reading
from agents.meters.battery import BatteryMeter, OdpmMeter
from agents.meters.catalog import METERS, power_meters
from agents.meters.fake import FakeMeter
from agents.meters.ina3221 import Ina3221Meter
from agents.meters.jtop import JtopMeter
from agents.meters.memory import MemoryMeter
from agents.meters.nvml import NvmlMeter
from agents.meters.rapl import RaplMeter
from agents.protocol import CHOICES, Rail
from tests.agents_tests.meters.fake_jtop import Package
from tests.agents_tests.meters.fake_nvml import FakeNvml

TREES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sysfs")
NOTHING = os.path.join(TREES, "no_such_board")
UNITS = {"W", "mW", "uW", "J", "mJ", "uJ"}


def tree(name):
    return os.path.join(TREES, name)


def moving_nvml():
    moments = iter(range(10**6))
    return NvmlMeter(FakeNvml(lambda: float(next(moments))).load)


WORKING = {
    "memory": lambda: MemoryMeter(tree("two_cores")),
    "fake": lambda: FakeMeter([1.0, 2.5]),
    "nvml": moving_nvml,
    "ina3221": lambda: Ina3221Meter(tree("jetson_tx2")),
    "jtop": lambda: JtopMeter(Package),
    "rapl": lambda: RaplMeter(tree("rapl_server")),
    "battery": lambda: BatteryMeter(tree("phone")),
    "odpm": lambda: OdpmMeter(tree("phone")),
}


def not_installed():
    raise ImportError("No module named 'jtop'")


BROKEN = {
    "memory": lambda: MemoryMeter(NOTHING),
    "fake": lambda: FakeMeter(broken="the script is empty: give it values"),
    "nvml": lambda: NvmlMeter(FakeNvml(gpus=0).load),
    "ina3221": lambda: Ina3221Meter(NOTHING),
    "jtop": lambda: JtopMeter(not_installed),
    "rapl": lambda: RaplMeter(NOTHING),
    "battery": lambda: BatteryMeter(NOTHING),
    "odpm": lambda: OdpmMeter(NOTHING),
}


def test_every_meter_is_under_contract() -> None:
    assert {meter.name for meter in METERS} | {"fake"} == set(WORKING) == set(BROKEN)


@pytest.mark.parametrize("name", sorted(WORKING))
class TestWorkingMeter:
    def test_it_is_a_meter_with_its_name(self, name: str) -> None:
        meter = WORKING[name]()
        assert isinstance(meter, Meter) and meter.name == name and meter.problem() is None
        assert isinstance(meter.mend(), str)

    def test_its_readings_have_unit_and_source(self, name: str) -> None:
        readings = WORKING[name]().read()
        assert readings
        for one in readings:
            assert isinstance(one, Reading) and isinstance(one.value, float)
            assert one.unit and one.source and math.isfinite(one.value)
            assert one.name.lower().endswith("_" + one.unit.lower())

    def test_it_always_reads_the_same_in_the_same_order(self, name: str) -> None:
        meter = WORKING[name]()
        first, second = meter.read(), meter.read()
        assert [one[:1] + one[2:] for one in first] == [one[:1] + one[2:] for one in second]
        assert len({one.name for one in first}) == len(first)


@pytest.mark.parametrize("name", sorted(set(WORKING) - {"memory"}))
class TestWorkingPowerMeter:
    def test_its_rails_are_among_its_readings_and_never_change(self, name: str) -> None:
        meter = WORKING[name]()
        assert isinstance(meter, PowerMeter) and meter.problem() is None
        rails = meter.rails()
        readings = {one.name: one for one in meter.read()}
        assert rails == meter.rails() and rails
        for rail in rails:
            assert isinstance(rail, Rail) and rail.unit in UNITS and rail.averaging
            assert rail.role in CHOICES[Rail, "role"]
            assert rail.covers in ("board", "cpu", "gpu", "memory", "other")
            assert (readings[rail.name].unit, readings[rail.name].source) == (
                rail.unit, rail.source)

    def test_polling_gives_one_number_for_each_rail(self, name: str) -> None:
        meter = WORKING[name]()
        assert meter.problem() is None
        values = meter.rail_values()
        assert len(values) == len(meter.rails()) and all(map(math.isfinite, values))

    def test_at_most_one_rail_is_the_whole_board(self, name: str) -> None:
        meter = WORKING[name]()
        assert meter.problem() is None
        roles = [rail.role for rail in meter.rails()]
        assert roles.count("total") <= 1 and not {"total", "addend"} <= set(roles)

    def test_its_counters_never_go_back(self, name: str) -> None:
        meter = WORKING[name]()
        assert meter.problem() is None
        counters = [place for place, rail in enumerate(meter.rails()) if rail.unit.endswith("J")]
        first, second = meter.rail_values(), meter.rail_values()
        assert all(first[place] <= second[place] for place in counters)

    def test_it_may_be_closed_and_read_again(self, name: str) -> None:
        meter = WORKING[name]()
        names = [one.name for one in meter.read()]
        meter.close()
        assert [one.name for one in meter.read()] == names


@pytest.mark.parametrize("name", sorted(BROKEN))
class TestBrokenMeter:
    def test_the_problem_is_a_sentence_and_reading_raises_it(self, name: str) -> None:
        meter = BROKEN[name]()
        problem = meter.problem()
        assert problem and len(problem.split()) > 3 and "\n" not in problem
        assert problem == meter.problem() and isinstance(meter.mend(), str)
        with pytest.raises(MeterError) as error:
            meter.read()
        assert str(error.value) == problem


def test_the_meters_of_this_machine_answer_without_an_exception() -> None:
    for meter in power_meters():
        problem = meter.problem()
        assert problem is None or len(problem) > 10
        meter.close()


def test_memory_of_a_tree_and_of_this_process() -> None:
    readings = {one.name: one.value for one in WORKING["memory"]().read()}
    assert readings == {"rss_bytes": 200 * 1024, "peak_bytes": 300 * 1024}
    own = {one.name: one.value for one in MemoryMeter().read()}
    assert own["peak_bytes"] >= own["rss_bytes"] > 1e6


def test_the_fake_reads_its_script_and_then_its_last_value() -> None:
    meter = FakeMeter([1.0, 2.0])
    assert [meter.read()[0].value for _ in range(3)] == [1.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="at least one"):
        FakeMeter([])
