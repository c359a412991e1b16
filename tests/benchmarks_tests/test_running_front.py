"""Candidates that were on the front at any time, wasted training, time to a hypervolume."""

import pytest

from benchmarks.ablation import rank_correlation
from benchmarks.fronts import Figures, volume_of
from benchmarks.running_front import Entry, ever_on_front, share_off_front
from benchmarks.time_to_volume import reached_at_s

BASELINE = Figures("baseline", 0.9, 1000, 1.0)


def entry(number: int, finished_s: float, *losses: float) -> Entry:
    return Entry(number, f"recipe {number}", "", finished_s, losses or None)


def test_a_candidate_counts_though_a_later_one_dominates_it() -> None:
    first, better, beaten = entry(0, 1.0, 5, 5), entry(1, 2.0, 4, 4), entry(2, 3.0, 4.5, 4.5)
    assert ever_on_front([beaten, better, first]) == [first, better]


def test_an_equal_or_unsound_candidate_joins_no_front() -> None:
    first, equal, unsound = entry(0, 1.0, 5, 5), entry(1, 2.0, 5, 5), entry(2, 0.5)
    assert ever_on_front([first, equal, unsound]) == [first]


def test_share_of_training_off_the_front() -> None:
    assert share_off_front({"a": 3.0, "b": 1.0}, ["a", "untrained"]) == pytest.approx(0.25)
    assert share_off_front({}, ["a"]) is None


def test_time_to_a_hypervolume() -> None:
    half, quarter = Figures("half", 0.9, 500, 0.5), Figures("quarter", 0.9, 250, 0.25)
    wanted, _ = volume_of([half], BASELINE)
    timed = [(30.0, quarter), (10.0, BASELINE), (20.0, half)]
    assert reached_at_s(timed, BASELINE, wanted, 0.05) == 20.0
    assert reached_at_s([(10.0, half)], BASELINE, 2 * wanted, 0.05) is None
    assert reached_at_s([], BASELINE, wanted, 0.05) is None


def test_rank_correlation() -> None:
    assert rank_correlation([(0.1, 0.5), (0.2, 0.6), (0.3, 0.9)]) == pytest.approx(1.0)
    assert rank_correlation([(0.1, 0.9), (0.2, 0.6), (0.3, 0.5)]) == pytest.approx(-1.0)
    assert rank_correlation([(0.1, 0.9), (0.2, 0.6)]) is None
    assert rank_correlation([(0.1, 0.9), (0.2, 0.9), (0.3, 0.9)]) is None
