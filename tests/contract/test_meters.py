"""The contract of ``fleetfront_testing.meters`` for every built-in meter, the fake included."""

import os
from itertools import count

import pytest

from agents.meters.base import Meter, PowerMeter
from agents.meters.battery import BatteryMeter, OdpmMeter
from agents.meters.catalog import METERS, power_meters
from agents.meters.fake import FakeMeter
from agents.meters.ina3221 import Ina3221Meter
from agents.meters.jtop import JtopMeter
from agents.meters.memory import MemoryMeter
from agents.meters.nvml import NvmlMeter
from agents.meters.rapl import RaplMeter
from fleetfront_testing.meters import MeterContract, PowerMeterContract
from tests.agents_tests.meters.fake_jtop import Package
from tests.agents_tests.meters.fake_nvml import FakeNvml

TREES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sysfs")
NOTHING = os.path.join(TREES, "no_such_board")


def tree(name: str) -> str:
    return os.path.join(TREES, name)


def test_every_meter_is_under_contract() -> None:
    tested = {kind.name for kind in (*MeterContract.__subclasses__(),
                                     *PowerMeterContract.__subclasses__())} - {""}
    assert tested == {meter.name for meter in METERS} | {"fake"}


class TestMemory(MeterContract):
    name = "memory"

    def working(self) -> Meter:
        return MemoryMeter(tree("two_cores"))

    def broken(self) -> Meter:
        return MemoryMeter(NOTHING)

    def test_memory_of_a_tree_and_of_this_process(self) -> None:
        readings = {one.name: one.value for one in self.working().read()}
        assert readings == {"rss_bytes": 200 * 1024, "peak_bytes": 300 * 1024}
        own = {one.name: one.value for one in MemoryMeter().read()}
        assert own["peak_bytes"] >= own["rss_bytes"] > 1e6


class TestFake(PowerMeterContract):
    name = "fake"

    def working(self) -> PowerMeter:
        return FakeMeter([1.0, 2.5])

    def broken(self) -> PowerMeter:
        return FakeMeter(broken="the script is empty: give it values")

    def test_it_reads_its_script_and_then_its_last_value(self) -> None:
        meter = FakeMeter([1.0, 2.0])
        assert [meter.read()[0].value for _ in range(3)] == [1.0, 2.0, 2.0]
        with pytest.raises(ValueError, match="at least one"):
            FakeMeter([])


class TestNvml(PowerMeterContract):
    name = "nvml"

    def working(self) -> PowerMeter:
        moments = count()
        return NvmlMeter(FakeNvml(lambda: float(next(moments))).load)

    def broken(self) -> PowerMeter:
        return NvmlMeter(FakeNvml(gpus=0).load)


class TestIna3221(PowerMeterContract):
    name = "ina3221"

    def working(self) -> PowerMeter:
        return Ina3221Meter(tree("jetson_tx2"))

    def broken(self) -> PowerMeter:
        return Ina3221Meter(NOTHING)


class TestJtop(PowerMeterContract):
    name = "jtop"

    def working(self) -> PowerMeter:
        return JtopMeter(Package)

    def broken(self) -> PowerMeter:
        def not_installed() -> None:
            raise ImportError("No module named 'jtop'")
        return JtopMeter(not_installed)


class TestRapl(PowerMeterContract):
    name = "rapl"

    def working(self) -> PowerMeter:
        return RaplMeter(tree("rapl_server"))

    def broken(self) -> PowerMeter:
        return RaplMeter(NOTHING)


class TestBattery(PowerMeterContract):
    name = "battery"

    def working(self) -> PowerMeter:
        return BatteryMeter(tree("phone"))

    def broken(self) -> PowerMeter:
        return BatteryMeter(NOTHING)


class TestOdpm(PowerMeterContract):
    name = "odpm"

    def working(self) -> PowerMeter:
        return OdpmMeter(tree("phone"))

    def broken(self) -> PowerMeter:
        return OdpmMeter(NOTHING)


def test_the_meters_of_this_machine_answer_without_an_exception() -> None:
    for meter in power_meters():
        problem = meter.problem()
        assert problem is None or len(problem) > 10
        meter.close()
