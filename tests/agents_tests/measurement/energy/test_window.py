"""The energy of candidates in a measurement: a scripted child, a fake meter, a made-up clock."""

import math

import pytest

from agents.measurement.energy.window import EnergyWindow, energy_support
from agents.measurement.runner import measure
from agents.meters.base import PowerMeter
from agents.meters.fake import FakeMeter
from agents.protocol import (
    MeasureResult,
    Rail,
    decode,
    draws_of,
    encode,
    unpack_samples,
    unpack_values,
)
from tests.agents_tests.measurement.test_runner import PATHS, Clock, ScriptedChild, payload

RAIL = Rail("board_mw", "mW", "here", "board", "total", "instant")


class MovingMeter(PowerMeter):
    name = "moving"

    def __init__(self, clock):
        self.clock, self.closed = clock, 0

    def problem(self):
        return None

    def readings(self):
        return []

    def rails(self):
        return [RAIL]

    def rail_values(self):
        loaded = 10.0 <= self.clock() <= 25.0
        return [1000.0 + (9000.0 if loaded else 0.0) + 50 * math.sin(self.clock() * 7)]

    def close(self):
        self.closed += 1


class RestingChild(ScriptedChild):
    """Lets time pass while it is listened to, until its script may go on at 40 s. It works from
    11.5 s to 25 s."""

    def progress(self):
        energy = self.script[:1] and self.script[0]["event"] == "energy"
        return self.at._replace(resting=bool(energy) and not 11.5 <= self.clock.now_s < 25.0)

    def next_event(self, timeout_s):
        if self.script[:1] and self.script[0]["event"] == "energy" and self.clock.now_s < 40.0:
            self.clock.now_s += timeout_s
            return None
        return super().next_event(timeout_s)


def opened(index):
    return {"event": "opened", "index": index, "load_s": 0.1, "first_s": 0.1,
            "provider": "CPUExecutionProvider", "outputs": [0.5]}


ROUNDS = {"event": "rounds", "reference_s": [0.001] * 6, "openings": 1, "series": {"1": {
    "candidate_s": [0.002] * 4, "before_s": [0.001] * 4, "after_s": [0.001] * 4,
    "sample_blocks": [1] * 4, "samples": ""}}}
TOLD = {"event": "energy", "index": 1, "load": [11.5, 25.0], "calls": 1350,
        "idle_before": [1.5, 9.5], "idle_after": [27.0, 39.0]}


def measured(meters, clock, energy_event=TOLD, watch=lambda working: None):
    ready, end = {"event": "ready", "versions": {}}, {"event": "end"}
    scripts = [[ready, opened(0), opened(1), ROUNDS, end], [ready, opened(1), energy_event, end]]
    modes = []

    def start(runtime, request):
        modes.append(request.mode)
        return RestingChild(scripts[len(modes) - 1], clock)

    result = measure(payload(1, energy_s=13.5, idle_s=8.0), PATHS, start, clock,
                     energy_window=lambda profile: EnergyWindow(meters, clock, profile),
                     watch=watch)
    return modes, decode(MeasureResult, encode(result)).measurements[0]


def test_the_monitor_knows_when_the_device_is_idle():
    """A governor lowers the clocks of an idle device, which is no disturbance."""
    clock, seen = Clock(), []
    measured([MovingMeter(clock)], clock, watch=lambda working: seen.append((clock(), working)))
    waiting = [(at, working) for at, working in seen if 1.0 < at < 39.0]
    assert waiting and all(working == (11.5 <= at < 25.0) for at, working in waiting)


def test_the_energy_of_a_candidate_is_measured_alone():
    clock = Clock()
    meter = MovingMeter(clock)
    modes, found = measured([meter], clock)
    assert modes == ["pairs", "energy"] and found.verdict == "valid" and meter.closed == 1
    told = found.energy
    assert told.problem == "" and told.covers == "board_mw" and told.calls == 1350
    assert told.gross_j == pytest.approx(10.0 * 13.5 / 1350, rel=0.01)
    assert told.net_j == pytest.approx(9.0 * 13.5 / 1350, rel=0.01)
    assert told.power_w == pytest.approx(10.0, rel=0.01)
    times, values = unpack_samples(told.rails[0].times), unpack_values(told.rails[0].values)
    assert len(times) == len(values) > 1000 and times[0] == 0
    assert told.load[1] - told.load[0] == pytest.approx(13.5)


def test_without_a_meter_no_window_is_run_and_the_reason_stays():
    modes, found = measured([FakeMeter(broken="its cable is out: put it in")], Clock())
    assert modes == ["pairs"] and found.verdict == "valid"
    assert found.energy.problem.startswith("no meter: no rail covers the cpu")
    assert "fake: its cable is out" in found.energy.problem and found.energy.gross_j is None


def test_a_window_without_energy_keeps_its_rails_and_the_reason():
    clock = Clock()
    short = dict(TOLD, load=[11.5, 12.5])
    told = measured([MovingMeter(clock)], clock, short)[1].energy
    assert told.problem.startswith("window too short") and told.rails and told.net_j is None


def test_energy_support_is_reported_for_cpu_and_gpu():
    assert energy_support([FakeMeter()]) == {"cpu": "ok", "gpu": "ok"}
    gpu = FakeMeter(rail=RAIL._replace(covers="gpu", role="addend"))
    assert energy_support([gpu])["gpu"] == "ok" and "only gpu" in energy_support([gpu])["cpu"]


@pytest.mark.parametrize(("provider", "draws"), [
    ("CUDAExecutionProvider", "gpu"), ("TensorrtExecutionProvider", "gpu"),
    ("CPUExecutionProvider", "cpu"), ("", "cpu")])
def test_a_provider_keeps_one_part_busy(provider, draws):
    assert draws_of(provider) == draws
