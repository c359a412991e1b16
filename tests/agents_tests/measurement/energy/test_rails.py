"""Roles of rails by the profile, beside what the meters know themselves."""

import os

import pytest

from agents.measurement.energy.integral import EnergyUnavailable
from agents.measurement.energy.per_inference import select_rails
from agents.measurement.energy.rails import profile_coverage, with_profile_roles
from agents.measurement.energy.window import EnergyWindow, usable_meters
from agents.meters.fake import FakeMeter
from agents.meters.ina3221 import Ina3221Meter
from agents.meters.rapl import RaplMeter
from agents.protocol import UNKNOWN, ProfileFacts, Rail
from tests.agents_tests.fakes import ROOT

CARRIER = ProfileFacts("carrier", ["VDD_MUX"], ["VDD_*"], "the carrier board")
TWO = ProfileFacts("two", ["VIN_A", "VIN_B"], [], "both supplies")


def rails_of(tree, meter=Ina3221Meter):
    made = meter(os.path.join(ROOT, "tests", "sysfs", tree))
    assert made.problem() is None
    return made.rails()


def unknown(*names):
    return [Rail(name, "mW", "here", "other", "part", "instant") for name in names]


def test_without_a_profile_rails_stay_as_their_meter_says():
    rails = rails_of("jetson_tx2")
    assert with_profile_roles(rails, UNKNOWN) == rails and profile_coverage(rails, UNKNOWN) == ""


def test_the_profile_says_which_rail_is_the_input():
    """Of a TX2 the meter would take VDD_IN. What is never added wins over the total's patterns."""
    profile = CARRIER._replace(single_rails=["VDD_[!M]*"])
    rails = with_profile_roles(rails_of("jetson_tx2"), profile)
    assert [(rail.name, rail.covers) for rail in rails if rail.role != "part"] == [
        ("VDD_MUX_mw", "board")]
    assert select_rails(rails, "gpu").covers == "VDD_MUX_mw"
    assert profile_coverage([rail for rail in rails if rail.role == "total"], profile) == (
        "the carrier board")
    with pytest.raises(EnergyUnavailable, match="no meter"):
        select_rails(with_profile_roles(rails_of("jetson_tx2"), CARRIER), "cpu")


def test_several_rails_of_a_total_are_added_unless_one_is_missing():
    both = with_profile_roles(unknown("VIN_A_mw", "VIN_B_mw", "VDD_CPU_mw"), TWO)
    assert [rail.role for rail in both] == ["addend", "addend", "part"]
    assert select_rails(both, "cpu").places == [0, 1]
    with pytest.raises(EnergyUnavailable, match="no meter"):
        select_rails(with_profile_roles(unknown("VIN_A_mw", "VDD_CPU_mw"), TWO), "cpu")


def test_what_a_rail_feeds_stays_as_its_meter_knows():
    """A package is no board: it tells nothing of a GPU."""
    profile = ProfileFacts("desktop", ["package-*"], ["package-*_core", "psys"], "packages")
    rails = with_profile_roles(rails_of("rapl_server", RaplMeter), profile)
    assert [rails[place].name for place in select_rails(rails, "cpu").places] == [
        "package-0_uj", "package-0_dram_uj", "package-1_uj", "package-1_dram_uj"]
    with pytest.raises(EnergyUnavailable, match="only cpu, memory"):
        select_rails(rails, "gpu")


def test_a_window_goes_by_the_profile():
    meters = [FakeMeter(rail=unknown("VIN_mw")[0])]
    profile = ProfileFacts("x", ["VIN"], [], "all of it")
    assert usable_meters(meters, "gpu", profile) == meters
    assert EnergyWindow(meters, lambda: 0.0, profile).problem("CPUExecutionProvider") is None
    assert "no meter" in EnergyWindow(meters, lambda: 0.0).problem("CPUExecutionProvider")
