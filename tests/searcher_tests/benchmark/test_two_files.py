"""Comparison of two files with a scripted device."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.protocol import ArtifactRef, MeasurePayload
from searcher.benchmark.two_files import LOOK_S, FileComparison, compare_files
from searcher.client.jobs import EndedJob
from searcher.errors import UserError
from searcher.jobs.measure import MeasureRequest
from searcher.statistics.measured import FileMeasurement, MeasureResult
from tests.searcher_tests.statistics.test_energy import WITHOUT

FILES = (ArtifactRef("a" * 64, 1), ArtifactRef("b" * 64, 1))
HOT = replace(WITHOUT, warnings=("hot: it began at 80",))


class Device:
    """Gives one ratio of m.onnx to o.onnx after another; None is a look that was busy. The file
    that is not the reference looks faster by ``role``."""

    def __init__(self, *ratios: float | None, blocks: int = 60, level_s: float = 1e-3,
                 role: float = 0.0) -> None:
        self.ratios, self.blocks, self.level_s, self.role = list(ratios), blocks, level_s, role
        self.asked: list[MeasurePayload] = []

    def __call__(self, request: MeasureRequest) -> EndedJob[MeasureResult]:
        payload = request.message
        ratio = self.ratios[len(self.asked) % len(self.ratios)]
        self.asked.append(payload)
        own_level_s = self.level_s
        if ratio is not None:
            if payload.reference == FILES[0]:
                ratio, own_level_s = 1 / ratio, self.level_s * ratio
            ratio *= 1 - self.role
        entry = FileMeasurement(verdict="valid", ratio=ratio, n=self.blocks, summary=HOT)
        if ratio is None:
            entry = FileMeasurement(verdict="invalid", reasons=("busy",))
        return done(entry, environment={"key": "k"}, own_level_s=own_level_s,
                    device_s=payload.plan.max_s + 0.1)

    def compare(self, seconds: float = 10.0) -> FileComparison:
        return compare_files(Path("m.onnx"), Path("o.onnx"), FILES, self, seconds)


def done(entry: FileMeasurement, **fields: Any) -> EndedJob[MeasureResult]:
    return EndedJob("done", MeasureResult((entry,), **fields))


def test_the_comparison_ends_with_the_decision() -> None:
    device = Device(1.051, 1.049, 1.05)
    found = device.compare()
    assert found.verdict == "slower" and found.ratio == pytest.approx(1.05, rel=1e-3)
    assert len(found.looks) == len(device.asked) == 4
    assert found.device_s == pytest.approx(4 * (LOOK_S + 0.1))
    assert found.warnings == ["hot (in 4 of 4 looks)"]
    assert found.interval is not None
    low, high = found.interval
    assert 1.01 < low < 1.05 < high


def test_the_files_change_roles_and_every_look_is_a_job_of_its_own() -> None:
    device = Device(1.004, 0.996)
    device.compare()
    assert [p.reference for p in device.asked[:4]] == [FILES[1], FILES[0], FILES[1], FILES[0]]
    assert all(p.candidates != [p.reference] for p in device.asked)
    assert len({p.attempt for p in device.asked}) == len(device.asked)
    assert {p.plan.processes for p in device.asked} == {1}


def test_the_effect_of_roles_cancels() -> None:
    found = Device(1.0301, 1.0299, 1.0302, 1.0298, role=0.02).compare()
    assert found.verdict == "slower" and found.ratio == pytest.approx(1.03, abs=5e-4)
    assert found.interval is not None and found.interval[0] > 1.02
    copy = Device(1.0001, 0.9999, 1.0002, 0.9998, role=0.02).compare()
    assert copy.verdict == "equal"
    assert [look.changed for look in copy.looks[:2]] == [False, True]


def test_too_few_looks_give_advice() -> None:
    found = Device(1.0, None).compare(seconds=4.0)
    assert (found.ratio, found.verdict) == (None, "undecided")
    assert "2 of 4 looks gave a ratio, and an interval needs 4: use more --seconds, or a " \
           "quieter machine" in found.warnings


def test_sessions_of_both_orders_have_equal_weight() -> None:
    device = Device(1.3)
    answer = device.__call__

    def two_sessions(request: MeasureRequest) -> EndedJob[MeasureResult]:
        job = answer(request)
        assert job.result is not None
        (entry,) = job.result.measurements
        sessions = (1.02, 1.02 * 1.04)
        if request.message.reference == FILES[0]:
            sessions = (1 / sessions[0], 1 / sessions[1])
        entry = replace(entry, summary=replace(HOT, session_ratios=sessions))
        return replace(job, result=replace(job.result, measurements=(entry,)))

    found = compare_files(Path("m.onnx"), Path("o.onnx"), FILES, two_sessions, 10.0)
    assert found.ratio == pytest.approx(1.02 * 1.04**0.5)


def test_the_time_limit_is_kept() -> None:
    device = Device(0.9, 1.2, 1.0, 1.1)
    found = device.compare(seconds=5.0)
    assert found.verdict == "undecided" and 4.0 < found.device_s <= 5.0


def test_slow_files_get_longer_looks() -> None:
    device = Device(1.0, 1.004, blocks=3)
    device.compare()
    lengths = [p.plan.max_s for p in device.asked]
    assert lengths[:3] == [LOOK_S, 2 * LOOK_S, 4 * LOOK_S]


def test_a_machine_that_is_never_quiet_gives_no_ratio() -> None:
    found = Device(None).compare(3.0)
    assert (found.ratio, found.verdict) == (None, "undecided")
    assert any(warning.startswith("busy") for warning in found.warnings)


@pytest.mark.parametrize(("job", "said"), [
    (done(FileMeasurement(verdict="failed", reasons=("crashed: signal 11",))),
     "m.onnx could not be measured: crashed: signal 11."),
    (EndedJob[MeasureResult]("failed", None, message="no such device"),
     "m.onnx could not be compared: no such device."),
    (EndedJob[MeasureResult]("failed", None, "reference",
                             "The reference failed: unloadable: no such operator.."),
     "o.onnx could not be measured: unloadable: no such operator."),
])
def test_a_failed_file_is_a_user_error(
        job: EndedJob[MeasureResult], said: str) -> None:
    with pytest.raises(UserError) as caught:
        compare_files(Path("m.onnx"), Path("o.onnx"), FILES, lambda request: job, 10.0)
    assert str(caught.value) == said
