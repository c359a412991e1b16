import argparse
import math

import pytest

from agents.measurement.energy.polling import MeterRecorder
from agents.meters.nvml import NvmlMeter
from agents.timing.energy_phases import run_phases
from benchmarks import gpu, gpu_load
from tests.agents_tests.meters.fake_nvml import FakeNvml

IDLE_W, CALL_S, CALL_J = 80.0, 0.004, 0.6


class Bench:
    """A clock that calls and rests move, and a GPU that draws more while it works."""

    def __init__(self, update_s=0.1):
        self.now_s, self.working = 0.0, []
        library = FakeNvml(lambda: self.now_s, self.power_w, update_s)
        self.recorder = MeterRecorder([NvmlMeter(library.load)], lambda: self.now_s)
        self.meter = NvmlMeter(library.load)
        assert self.meter.problem() is None
        self.recorder = MeterRecorder([self.meter], lambda: self.now_s)

    def power_w(self, now_s):
        works = bool(self.working) and self.working[0] <= now_s <= self.working[-1]
        return IDLE_W + math.sin(now_s * 40) + (CALL_J / CALL_S if works else 0.0)

    def call(self):
        self.working = [self.working[0] if self.working else self.now_s, self.now_s + CALL_S]
        self.advance(CALL_S)

    def advance(self, seconds):
        self.recorder.poll()
        self.now_s += seconds

    def phases(self, window_s=12.0, idle_s=5.0):
        found = run_phases(self.call, window_s, idle_s, lambda: self.now_s,
                           lambda seconds: self.advance(min(seconds, 0.02)))
        self.recorder.poll()
        return found


@pytest.fixture(autouse=True)
def polled_readily(monkeypatch):
    monkeypatch.setattr(gpu, "STATE_EVERY_S", 0.0)


def test_counter_and_power_agree_on_the_joules_of_a_call():
    bench = Bench()
    states = [{one.name: one.value for one in bench.meter.readings()}]
    phases = bench.phases()
    row = gpu.row_of(4, phases, [CALL_S] * phases.calls, bench.recorder.traces(), states, "gpu0_")
    assert row.problem == "" and row.calls == 3000 and row.reasons == ["software power cap"]
    for told in (row.counter, row.instant):
        assert told.net_j == pytest.approx(CALL_J, rel=0.01)
        assert told.gross_j == pytest.approx(CALL_J + IDLE_W * CALL_S, rel=0.01)
        assert told.idle_before_w == pytest.approx(IDLE_W, rel=0.01)


def test_a_short_window_is_refused_in_the_row(capsys):
    bench = Bench()
    phases = bench.phases(window_s=3.0)
    row = gpu.row_of(1, phases, [CALL_S] * phases.calls, bench.recorder.traces(), [], "gpu0_")
    assert row.counter is None and "window too short" in row.problem
    gpu.show([row])
    assert "window too short" in capsys.readouterr().out


def test_the_meter_alone(capsys):
    moment = iter(value * 0.02 for value in range(10**9))
    library = FakeNvml(lambda: next(moment), lambda now_s: 100 + math.sin(now_s * 9))
    assert gpu.main(["--meter-only", "--look-s", "0.05"], NvmlMeter(library.load)) == 0
    said = capsys.readouterr().out
    assert "nvml meter     ok" in said and "Fake GPU, driver 999.1" in said
    assert "gpu0_temperature_c" in said and "updates, one each" in said


def test_without_a_driver_it_says_so_and_runs_nothing(capsys):
    def missing(name):
        raise OSError("no such file")

    assert gpu.main([], NvmlMeter(missing)) == 1
    assert "no NVIDIA driver here" in capsys.readouterr().err
    assert gpu.main(["--meter-only"], NvmlMeter(missing)) == 1
    assert "lacks" in capsys.readouterr().out


def test_a_sweep_writes_its_table_and_its_file(monkeypatch, tmp_path, capsys):
    def measured(meter, backend, batch, options):
        bench = Bench()
        phases = bench.phases()
        states = [{one.name: one.value for one in bench.meter.readings()}]
        return gpu.row_of(batch, phases, [CALL_S] * phases.calls, bench.recorder.traces(), states,
                          "gpu0_")

    monkeypatch.setattr(gpu, "measure", measured)
    monkeypatch.setattr(gpu, "choose_backend",
                        lambda model: gpu_load.Backend("torch", "torch on a fake"))
    out = tmp_path / "gpu.json"
    assert gpu.main(["--batches", "2", "--out", str(out)], Bench().meter) == 0
    said = capsys.readouterr().out
    assert "torch on a fake" in said and "software power cap" in said
    assert '"net_j": 0.6' in out.read_text() or '"net_j": 0.59' in out.read_text()


def test_nothing_to_run_ends_with_the_reason(monkeypatch):
    import torch
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no --model was given, and torch .* finds no CUDA"):
        gpu_load.choose_backend("")
    with pytest.raises(SystemExit, match="has no CUDA provider"):
        gpu_load.choose_backend("model.onnx")


def test_a_child_that_dies_ends_the_sweep():
    options = argparse.Namespace(model="", index=0, window_s=0.1, idle_s=0.0)
    with pytest.raises(SystemExit, match="exit code"):
        gpu.measure(Bench().meter, gpu_load.Backend("none", "no such backend"), 1, options)
