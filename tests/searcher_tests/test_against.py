"""Comparing two files with a device that answers what the test says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from searcher.against import LOOK_S, against
from searcher.errors import UserError

FILES = ({"sha256": "a" * 64, "size_bytes": 1}, {"sha256": "b" * 64, "size_bytes": 1})


class Device:
    """Gives one ratio after another; None is a look that was busy."""

    def __init__(self, *ratios: float | None, blocks: int = 60, level_s: float = 1e-3) -> None:
        self.ratios, self.blocks, self.level_s = list(ratios), blocks, level_s
        self.asked: list[Mapping[str, Any]] = []

    def __call__(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        ratio = self.ratios[len(self.asked) % len(self.ratios)]
        self.asked.append(payload)
        entry: dict[str, Any] = {"verdict": "valid", "reasons": [], "ratio": ratio,
                                 "n": self.blocks, "summary": {"warnings": ["hot: it began at 80"]}}
        if ratio is None:
            entry |= {"verdict": "invalid", "reasons": ["busy"], "n": None, "summary": None}
        return {"state": "done", "result": {
            "measurements": [entry], "environment": {"key": "k"}, "own_level_s": self.level_s,
            "device_s": payload["plan"]["max_s"] + 0.1}}

    def compare(self, seconds: float = 10.0) -> dict[str, Any]:
        return against(Path("m.onnx"), Path("o.onnx"), FILES, self, seconds)


def test_it_ends_as_soon_as_it_is_decided() -> None:
    device = Device(1.051, 1.049, 1.05)
    found = device.compare()
    assert found["verdict"] == "slower" and found["ratio"] == pytest.approx(1.05, rel=1e-3)
    assert len(found["looks"]) == len(device.asked) == 3
    assert found["device_s"] == pytest.approx(3 * (LOOK_S + 0.1))
    assert found["warnings"] == ["hot (in 3 of 3 looks)"]
    low, high = found["interval"]
    assert 1.01 < low < 1.05 < high


def test_the_other_file_is_the_reference_and_every_look_is_a_job_of_its_own() -> None:
    device = Device(1.0)
    device.compare()
    assert {p["reference"]["sha256"] for p in device.asked} == {"b" * 64}
    assert len({p["attempt"] for p in device.asked}) == len(device.asked)
    assert {p["plan"]["processes"] for p in device.asked} == {1}


def test_sessions_of_both_orders_count_alike() -> None:
    device = Device(1.3)
    answer = device.__call__

    def two_sessions(payload: Mapping[str, Any]) -> dict[str, Any]:
        job = answer(payload)
        (entry,) = job["result"]["measurements"]
        entry["summary"]["session_ratios"] = [1.02, 1.02 * 1.04]
        return job

    found = against(Path("m.onnx"), Path("o.onnx"), FILES, two_sessions, 10.0)
    assert found["ratio"] == pytest.approx(1.02 * 1.04**0.5)


def test_no_more_time_is_spent_than_there_is() -> None:
    device = Device(0.9, 1.2, 1.0, 1.1)
    found = device.compare(seconds=5.0)
    assert found["verdict"] == "undecided" and 4.0 < found["device_s"] <= 5.0


def test_slow_files_get_longer_looks() -> None:
    device = Device(1.0, 1.004, blocks=3)
    device.compare()
    lengths = [p["plan"]["max_s"] for p in device.asked]
    assert lengths[:3] == [LOOK_S, 2 * LOOK_S, 4 * LOOK_S]


def test_a_machine_that_is_never_quiet_gives_no_ratio() -> None:
    found = Device(None).compare(3.0)
    assert (found["ratio"], found["verdict"]) == (None, "undecided")
    assert any(warning.startswith("busy") for warning in found["warnings"])


def test_a_file_that_fails_is_an_error_of_its_user() -> None:
    def failed(payload: Mapping[str, Any]) -> dict[str, Any]:
        entry = {"verdict": "failed", "reasons": ["crashed: signal 11"]}
        return {"state": "done", "result": {"measurements": [entry], "environment": {}}}

    with pytest.raises(UserError, match=r"m.onnx could not be measured: crashed: signal 11"):
        against(Path("m.onnx"), Path("o.onnx"), FILES, failed, 10.0)
    with pytest.raises(UserError, match="no such device"):
        against(Path("m.onnx"), Path("o.onnx"), FILES,
                lambda payload: {"state": "failed", "message": "no such device"}, 10.0)
    broken = {"state": "failed", "reason": "reference",
              "message": "The reference failed: unloadable: no such operator.."}
    with pytest.raises(UserError) as caught:
        against(Path("m.onnx"), Path("o.onnx"), FILES, lambda payload: broken, 10.0)
    assert str(caught.value) == "o.onnx could not be measured: unloadable: no such operator."
