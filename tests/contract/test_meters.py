"""What every meter keeps, the fake included."""

import os

import pytest

from agents.meters import METERS
from agents.meters.base import Meter, MeterError, Reading
from agents.meters.fake import FakeMeter
from agents.meters.memory import MemoryMeter
from agents.meters.nvml import NvmlMeter
from tests.agents_tests.fake_nvml import FakeNvml

TREES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sysfs")
WORKING = {
    "memory": lambda: MemoryMeter(os.path.join(TREES, "two_cores")),
    "fake": lambda: FakeMeter([1.0, 2.5]),
    "nvml": lambda: NvmlMeter(FakeNvml().load),
}
BROKEN = {
    "memory": lambda: MemoryMeter(os.path.join(TREES, "no_such_board")),
    "fake": lambda: FakeMeter(broken="the script is empty: give it values"),
    "nvml": lambda: NvmlMeter(FakeNvml(gpus=0).load),
}


def test_every_meter_is_under_contract() -> None:
    assert {meter.name for meter in METERS} | {"fake"} == set(WORKING) == set(BROKEN)


@pytest.mark.parametrize("name", sorted(WORKING))
class TestWorkingMeter:
    def test_it_is_a_meter_with_its_name(self, name: str) -> None:
        meter = WORKING[name]()
        assert isinstance(meter, Meter) and meter.name == name and meter.problem() is None

    def test_its_readings_have_unit_and_source(self, name: str) -> None:
        readings = WORKING[name]().read()
        assert readings
        for one in readings:
            assert isinstance(one, Reading) and isinstance(one.value, float)
            assert one.unit and one.source
            assert one.name.lower().endswith("_" + one.unit.lower())

    def test_it_always_reads_the_same_names_in_the_same_order(self, name: str) -> None:
        meter = WORKING[name]()
        first, second = meter.read(), meter.read()
        assert [one.name for one in first] == [one.name for one in second]
        assert len({one.name for one in first}) == len(first)


@pytest.mark.parametrize("name", sorted(BROKEN))
class TestBrokenMeter:
    def test_the_problem_is_a_sentence_and_reading_raises_it(self, name: str) -> None:
        meter = BROKEN[name]()
        problem = meter.problem()
        assert problem and len(problem.split()) > 3
        with pytest.raises(MeterError, match="^" + problem[:10]):
            meter.read()


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
