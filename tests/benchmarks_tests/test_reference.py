"""The long reference of two files: its mean, its error, and its sign on two small files."""

import math
from pathlib import Path

import pytest

from benchmarks.measurement.models import chain
from benchmarks.measurement.reference import in_turn, piece, reference


def test_the_effect_of_the_role_cancels_in_mean_and_error() -> None:
    found = reference([1.03 * 0.99, 1.03 / 0.99, 1.03 * 0.98, 1.03 / 0.98, 7.0])
    assert (found.ratio, found.error, found.n) == (pytest.approx(1.03), pytest.approx(0), 4)


def test_its_error_is_that_of_the_mean_of_pairs() -> None:
    found = reference([math.exp(x) for x in (0.1, 0.3, 0.3, 0.5)])
    assert math.log(found.ratio) == pytest.approx(0.3)
    assert found.error == pytest.approx(0.1)


def test_a_piece_is_first_over_second_in_either_role(tmp_path: Path) -> None:
    short, long = chain(tmp_path / "short.onnx", 1), chain(tmp_path / "long.onnx", 30)
    assert in_turn(long, short, 0.01) > 2 and in_turn(short, long, 0.01) < 0.5
    assert piece(long, short, 0) > 2 and piece(long, short, 1) > 2
