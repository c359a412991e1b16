"""What a job that carries facts of the profile does with them, on a board's tree."""

import os
import shutil

import pytest

from agents.jobs.base import JobContext
from agents.jobs.measure import run_measure
from agents.platform.sysfs import SystemTree
from agents.protocol import MeasurePayload, MeasureResult, PowerMode, ProfileFacts, as_json, decode
from tests.agents_tests.fakes import ROOT
from tests.agents_tests.measurement.energy.test_window import opened
from tests.agents_tests.measurement.test_runner import (
    END,
    PATHS,
    READY,
    Clock,
    ScriptedChild,
    payload,
    rounds,
)

FACTS = ProfileFacts("board", ignored_zones=["MCPU-therm"], power_modes=[
    PowerMode("MAXN", 0, 2000000), PowerMode("MAXQ", 1, 1100000)])


@pytest.fixture
def board(tmp_path):
    shutil.copytree(os.path.join(ROOT, "tests", "sysfs", "two_cores"), str(tmp_path / "root"))
    return tmp_path / "root"


def warnings(board, profile, power_mode=0):
    """Of a measurement there, whose plan wants 40 degrees and waits no second."""
    status = board / "var" / "lib" / "nvpmodel" / "status"
    status.parent.mkdir(parents=True)
    status.write_text("pmode:{:04d}\n".format(power_mode))
    clock = Clock()
    asked = payload(1, start_below_c=40.0, profile=as_json(profile))
    script = [READY, opened(0), opened(1), rounds([1]), END]
    result = decode(MeasureResult, run_measure(
        decode(MeasurePayload, asked), JobContext(
            PATHS, lambda runtime, request: ScriptedChild(script, clock), SystemTree(str(board)),
            clock=clock, wait=lambda delay_s: None)))
    assert result.environment["before"]["power_mode"] == power_mode
    return [doubt for one in result.measurements for doubt in one.warnings], result


def test_without_facts_the_agent_uses_its_own_readings(board):
    found, result = warnings(board, None)
    assert "hot: it began at 41.5 C, above 40.0 C" in found[0]
    assert not any(doubt.startswith("clock drop") for doubt in found)
    assert result.environment["before"]["temperatures_c"] == {"MCPU-therm": 41.5}


def test_ignored_zones_are_no_doubt_and_the_clock_is_held_to_the_power_mode(board):
    found, result = warnings(board, FACTS)
    assert [doubt.partition(":")[0] for doubt in found] == ["clock drop", "unpinned"]
    assert "at most 1100000 kHz, the power mode MAXN has 2000000 kHz" in found[0]
    assert result.environment["after"]["temperatures_c"] == {}


def test_in_a_slow_power_mode_a_slow_clock_is_right(board):
    found, _ = warnings(board, FACTS, power_mode=1)
    assert [doubt.partition(":")[0] for doubt in found] == ["unpinned"]
