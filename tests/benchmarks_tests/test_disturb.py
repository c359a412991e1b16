"""The made-up machine of the benchmark: what is planted in it is told, and nothing else."""

import random
from pathlib import Path

import pytest

from benchmarks.measurement.disturb import KINDS, SYNTHETIC, Bench


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_planted_disturbance_is_told(name: str, tmp_path: Path) -> None:
    drawn, bench = random.Random(11), Bench(tmp_path)
    assert set(KINDS[name]) & set(bench.trial(name, drawn))


def test_a_quiet_machine_is_told_nothing_of(tmp_path: Path) -> None:
    drawn, bench = random.Random(12), Bench(tmp_path)
    assert bench.trial("quiet, synthetic", drawn) == []
