import pytest

from agents.meters.base import MeterError
from agents.meters.nvml import NvmlMeter, reasons_in_words
from tests.agents_tests.meters.fake_nvml import FakeNvml


def meter_of(library, index=0):
    return NvmlMeter(library.load, index)


def test_every_reading_comes_from_the_function_that_its_source_names():
    values = {one.name: one.value for one in meter_of(FakeNvml()).read()}
    assert values == {
        "gpu0_energy_mj": 5e6, "gpu0_power_instant_mw": 120_000, "gpu0_power_average_mw": 100_000,
        "gpu0_power_usage_mw": 100_000, "gpu0_temperature_c": 41, "gpu0_sm_clock_mhz": 1755,
        "gpu0_memory_clock_mhz": 2619, "gpu0_clocks_event_reasons_mask": 4,
        "gpu0_utilisation_percent": 37}


def test_the_counter_is_an_addend_and_the_powers_are_parts():
    meter = meter_of(FakeNvml())
    assert meter.problem() is None
    assert [(rail.name, rail.role, rail.covers) for rail in meter.rails()] == [
        ("gpu0_energy_mj", "addend", "gpu"), ("gpu0_power_instant_mw", "part", "gpu"),
        ("gpu0_power_average_mw", "part", "gpu"), ("gpu0_power_usage_mw", "part", "gpu")]
    assert meter.rail_values() == [5e6, 120_000, 100_000, 100_000]


def test_a_card_without_the_counter_uses_its_power():
    meter = meter_of(FakeNvml(lacking=["nvmlDeviceGetTotalEnergyConsumption"],
                              absent=["nvmlDeviceGetFieldValues"]))
    assert meter.problem() is None
    assert [(rail.name, rail.role) for rail in meter.rails()] == [("gpu0_power_usage_mw", "addend")]


def test_an_old_driver_calls_the_reasons_by_their_old_name():
    meter = meter_of(FakeNvml(absent=["nvmlDeviceGetCurrentClocksEventReasons"]))
    assert "gpu0_clocks_event_reasons_mask" in [one.name for one in meter.read()]


def test_an_unreadable_value_is_nan():
    library = FakeNvml()
    meter = meter_of(library)
    assert meter.problem() is None
    library.lacking.add("nvmlDeviceGetTemperature")
    value = {one.name: one.value for one in meter.read()}["gpu0_temperature_c"]
    assert value != value


def test_the_second_gpu_has_readings_of_its_own_name():
    assert meter_of(FakeNvml(gpus=2), 1).read()[0].name == "gpu1_energy_mj"


def missing(name):
    raise OSError("cannot open shared object file")


@pytest.mark.parametrize(("meter", "words"), [
    (NvmlMeter(missing), "libnvidia-ml.so.1 cannot be loaded"),
    (meter_of(FakeNvml(), 3), "'Not Found' for GPU 3 of 1"),
    (meter_of(FakeNvml(lacking=["nvmlInit_v2"])), "'Not Supported'"),
    (meter_of(FakeNvml(absent=["nvmlInit_v2"])), "'function not found'"),
    (meter_of(FakeNvml(lacking=["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage",
                                "nvmlDeviceGetFieldValues"])), "neither power nor energy"),
])
def test_the_problem_is_reported(meter, words):
    with pytest.raises(MeterError, match=words):
        meter.read()


def test_it_may_be_closed_and_read_again():
    library = FakeNvml()
    meter = meter_of(library)
    first = meter.read()
    meter.close()
    assert library.opened == 0
    assert meter.read() == first and library.opened == 1


def test_the_bits_have_names():
    assert reasons_in_words(0x44) == ["software power cap", "hardware thermal slowdown"]
