"""Fronts of two installations by one hypervolume."""

import json
from pathlib import Path

import pytest

from benchmarks import demo_volume


def front(folder: Path, accuracy: float, share: float) -> None:
    baseline = {"accuracy_test": 0.99, "file_bytes": 1000, "latency_s": 2e-4}
    values = {"accuracy_test": accuracy, "file_bytes": 1000 * share, "latency_s": 2e-4 * share}
    file = folder / "lenet5-mnist" / "front.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"baseline": {"values": baseline}, "points": [{"values": values}]}))


@pytest.mark.parametrize(("ours", "code"), [(0.1, 0), (0.4, 1)])
def test_the_larger_mean_wins(tmp_path: Path, ours: float, code: int,
                              capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        front(tmp_path / f"this-{seed}", 0.985, ours)
        front(tmp_path / f"other-{seed}", 0.985, 0.25)
    found = demo_volume.main(
        ["--other", "/nowhere/fleetfront", "--seeds", "0", "1", "--dir", str(tmp_path)])
    assert found == code
    assert f"{1 / ours:.2f}x" in capsys.readouterr().out
