"""Best points, reversed pairs and hypervolume of a benchmark's front."""

import pytest

from benchmarks.fronts import Figures, best, reversed_pairs, volume_of

BASELINE = Figures("baseline", 0.99, 1_000_000, 1.0)
POINTS = [Figures("small", 0.98, 5_000, 0.5), Figures("fast", 0.985, 50_000, 0.2),
          Figures("too bad", 0.9799, 1_000, 0.1)]


def test_a_point_that_loses_more_than_one_point_is_not_the_best() -> None:
    assert best(POINTS, BASELINE.accuracy_test, lambda p: p.file_bytes) == POINTS[0]
    assert best(POINTS, BASELINE.accuracy_test, lambda p: p.ratio) == POINTS[1]


def test_nothing_within_one_point() -> None:
    assert best(POINTS[2:], BASELINE.accuracy_test, lambda p: p.ratio) is None


def test_only_pairs_clearly_apart_can_be_reversed() -> None:
    first = {"a": 0.100, "b": 0.102, "c": 0.200}
    assert reversed_pairs(first, {"a": 0.11, "b": 0.10, "c": 0.19}) == (2, [])
    assert reversed_pairs(first, {"a": 0.21, "b": 0.10, "c": 0.20}) == (2, [("a", "c")])


def test_a_file_not_measured_again_makes_no_pair() -> None:
    assert reversed_pairs({"a": 0.1, "b": 0.2}, {"a": 0.1}) == (0, [])


def test_hypervolume_is_a_share_of_the_ideal() -> None:
    half = Figures("half", 0.99, 500_000, 0.5)
    volume, share = volume_of([half], BASELINE)
    assert share == pytest.approx(0.25)
    assert volume > 0
    assert volume_of([BASELINE], BASELINE)[1] == 0.0
    assert volume_of([half, *POINTS[:2]], BASELINE)[0] > volume
