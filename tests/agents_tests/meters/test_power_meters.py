"""Rails found on every board's tree, and what each kind of meter is careful about."""

import os
import shutil

import pytest

from agents.measurement.energy.integral import EnergyUnavailable
from agents.measurement.energy.per_inference import select_rails
from agents.meters.battery import BatteryMeter, OdpmMeter, calibrate
from agents.meters.ina3221 import Ina3221Meter
from agents.meters.jtop import JtopMeter
from agents.meters.rapl import RaplMeter
from tests.agents_tests.fakes import ROOT
from tests.agents_tests.meters.fake_jtop import Package

TREES = os.path.join(ROOT, "tests", "sysfs")
BOARDS = {
    "jetson_tx1": (["VDD_IN", "VDD_GPU", "VDD_CPU"], ["VDD_IN"], 4750.0),
    "jetson_tx2": (["VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_CPU",
                    "VDD_SYS_DDR", "VDD_MUX", "VDD_5V0_IO_SYS", "VDD_3V3_SYS", "VDD_3V3_IO_SLP",
                    "VDD_1V8_IO", "VDD_3V3_SYS_M2"], ["VDD_IN"], 3800.0),
    "jetson_nano": (["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"], ["POM_5V_IN"], 2000.0),
    "jetson_xavier_nx": (["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], ["VDD_IN"], 4500.0),
    "jetson_agx_xavier": (["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"],
                          ["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"], 6800.0),
    "jetson_orin_nano": (["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], ["VDD_IN"], 5000.0),
    "jetson_agx_orin": (["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"],
                        ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"], 6635.0),
}


def board(name):
    meter = Ina3221Meter(os.path.join(TREES, name))
    assert meter.problem() is None
    return meter


@pytest.fixture
def copied(tmp_path):
    def copy(name):
        return shutil.copytree(os.path.join(TREES, name), str(tmp_path / name))
    return copy


def written(folder, path, text):
    with open(os.path.join(folder, path), "w") as stream:
        stream.write(text)


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_the_rails_of_a_board_and_those_that_make_its_energy(name):
    labels, used, power_mw = BOARDS[name]
    meter = board(name)
    rails, values = meter.rails(), meter.rail_values()
    assert sorted(rail.name for rail in rails) == sorted(label + "_mw" for label in labels)
    choice = select_rails(rails, "gpu")
    assert [rails[place].name for place in choice.places] == [label + "_mw" for label in used]
    assert sum(values[place] for place in choice.places) == pytest.approx(power_mw)
    assert ("no rail covers the board" in choice.covers) == (len(used) > 1)


def test_the_newer_layout_reports_averaging_and_period():
    rail = board("jetson_orin_nano").rails()[0]
    assert (rail.averaging, rail.update_s) == ("mean of 4 conversions", 0.027)
    assert rail.source.endswith("/in1_input")
    older = board("jetson_tx2").rails()[0]
    assert (older.averaging, older.update_s) == ("not told", None)


def test_a_sensor_that_fails_once_reads_nan(copied):
    folder = copied("jetson_nano")
    meter = Ina3221Meter(folder)
    assert meter.problem() is None
    device = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/"
    written(folder, device + "in_power0_input", "")
    values = meter.rail_values()
    assert values[0] != values[0] and values[1:] == [100.0, 600.0]


def test_unknown_rails_of_a_board_are_parts(copied):
    folder = copied("jetson_xavier_nx")
    written(folder, "sys/bus/i2c/devices/7-0040/hwmon/hwmon3/in1_label", "VDD_NEW")
    meter = Ina3221Meter(folder)
    assert meter.problem() is None
    with pytest.raises(EnergyUnavailable,
                       match="no meter: no rail covers the gpu"):
        select_rails(meter.rails(), "gpu")


def test_unreadable_rails_are_a_problem_with_a_remedy(copied):
    folder = copied("jetson_nano")
    for number in range(3):
        written(folder, "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power{}_input".format(
            number), "")
    meter = Ina3221Meter(folder)
    assert "cannot be read" in str(meter.problem())
    assert meter.remedy().startswith("sudo chmod a+r /sys/bus/i2c")


def test_jetson_stats_adds_nothing_to_the_rails_of_the_chip():
    package = Package(rails={"GPU": 1, "CPU": 2, "SOC": 3, "CV": 0, "VDDRQ": 4, "SYS5V": 5})
    second = JtopMeter(lambda: package)
    assert second.problem() is None
    rails = [*board("jetson_agx_xavier").rails(), *second.rails()]
    assert select_rails(rails).places == [0, 1, 2, 3, 4, 5]
    assert second.rails()[0].update_s == 1.0


@pytest.mark.parametrize(("package", "words"), [
    (Package(rails={}), "knows no power rail"),
    (Package(down="The jtop.service is not active"), "jtop.service is not active"),
])
def test_a_failing_jetson_stats_has_a_problem_and_is_closed(package, words):
    meter = JtopMeter(lambda: package)
    assert words in str(meter.problem()) and package.opened == 0


def test_packages_and_their_memory_are_added_and_cores_are_not():
    meter = RaplMeter(os.path.join(TREES, "rapl_server"))
    assert meter.problem() is None
    assert {rail.name: (rail.covers, rail.role) for rail in meter.rails()} == {
        "package-0_uj": ("cpu", "addend"), "package-0_dram_uj": ("memory", "addend"),
        "package-0_core_uj": ("cpu", "part"), "package-1_uj": ("cpu", "addend"),
        "package-1_dram_uj": ("memory", "addend"), "psys_uj": ("other", "part")}
    assert {rail.wraps_at for rail in meter.rails()} == {262143328850.0, 65712999613.0}
    with pytest.raises(EnergyUnavailable, match="covers the gpu, only cpu, memory"):
        select_rails(meter.rails(), "gpu")


def test_energy_that_only_root_may_read_has_a_remedy(copied):
    folder = copied("rapl_server")
    written(folder, "sys/class/powercap/intel-rapl:0/energy_uj", "")
    meter = RaplMeter(folder)
    assert "root only (CVE-2020-8694)" in str(meter.problem())
    assert meter.remedy() == "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
    assert meter.remedy() in str(meter.problem())


@pytest.mark.parametrize(("current", "volts", "watts"), [
    (-350000, 3900000, 1.365), (350000, 3900000, 1.365),   # uA, either sign
    (-350, 3900, 1.365), (350, 3900000, 1.365),            # mA
])
def test_sign_and_scale_of_a_battery_are_calibrated(copied, current, volts, watts):
    folder = copied("phone")
    battery = "sys/class/power_supply/battery/"
    written(folder, battery + "current_now", str(current))
    written(folder, battery + "voltage_now", str(volts))
    meter = BatteryMeter(folder)
    assert meter.read()[0].value == pytest.approx(watts)


def test_implausible_values_of_a_battery_are_refused():
    assert calibrate(-350000, 42) is None and calibrate(0, 3900000) is None


@pytest.mark.parametrize(("path", "text"), [("usb/online", "1"), ("battery/status", "Charging")])
def test_a_charger_is_a_problem_and_ends_a_measurement(copied, path, text):
    folder = copied("phone")
    meter = BatteryMeter(folder)
    assert meter.problem() is None
    written(folder, "sys/class/power_supply/" + path, text)
    assert meter.rail_values()[0] != meter.rail_values()[0]
    assert "charger is plugged in" in str(BatteryMeter(folder).problem())


def test_monitored_rails_of_a_phone_are_parts():
    meter = OdpmMeter(os.path.join(TREES, "phone"))
    assert [(one.name, one.value) for one in meter.read()] == [
        ("device0_S10M_VDD_TPU_uj", 1200.0), ("device0_S2M_VDD_CPUCL2_uj", 987654.0),
        ("device1_VSYS_PWR_MODEM_uj", 55.0)]
    assert {rail.role for rail in meter.rails()} == {"part"}
