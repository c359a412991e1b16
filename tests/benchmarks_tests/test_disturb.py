"""Synthetic disturbances are reported; a quiet simulated machine has no warnings."""

import random
from pathlib import Path

import pytest

from benchmarks.measurement.disturb import KINDS, SYNTHETIC, Bench


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_disturbance_is_reported(name: str, tmp_path: Path) -> None:
    drawn, bench = random.Random(11), Bench(tmp_path)
    assert set(KINDS[name]) & set(bench.trial(name, drawn))


def test_a_quiet_machine_has_no_warnings(tmp_path: Path) -> None:
    drawn, bench = random.Random(12), Bench(tmp_path)
    assert bench.trial("quiet, synthetic", drawn) == []
