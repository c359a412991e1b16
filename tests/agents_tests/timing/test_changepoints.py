"""Changes planted in series of known noise; seeds are fixed."""

import random

import pytest

from agents.timing.changepoints import (
    MIN_STEADY_BLOCKS,
    bin_medians,
    changepoints,
    drift,
    largest_shift,
    steady_start,
)


def noisy(levels, spread=0.005, seed=1):
    source = random.Random(seed)
    return [level * (1 + source.gauss(0, spread)) for level in levels]


def test_a_level_series_has_no_changepoint():
    for seed in range(30):
        assert changepoints(noisy([1e-4] * 60, seed=seed)) == []


@pytest.mark.parametrize("ratio", [0.7, 0.93, 1.08, 2.0])
def test_a_step_is_found_where_it_is(ratio):
    values = noisy([1e-4] * 25 + [1e-4 * ratio] * 35)
    (at,) = changepoints(values)
    assert abs(at - 25) <= 1
    step = largest_shift(values)
    assert step is not None and step.ratio == pytest.approx(ratio, rel=0.02)


def test_very_small_steps_are_ignored():
    assert changepoints(noisy([1e-4] * 30 + [1.01e-4] * 30, spread=0.0005)) == []


def test_a_single_slow_block_is_no_level():
    values = noisy([1e-4] * 40)
    values[17] *= 5
    assert changepoints(values) == [] and largest_shift(values) is None


def test_a_short_episode_is_a_changepoint_but_no_lasting_step():
    values = noisy([1.0] * 50 + [1.5] * 4 + [1.0] * 46)
    assert len(changepoints(values)) == 2
    step = largest_shift(values)
    assert step is not None and step.ratio == pytest.approx(1.0, abs=0.01)


def test_warming_up_becomes_steady():
    cold = [2.0 - 0.1 * n for n in range(10)]
    assert steady_start(noisy(cold)) is None
    warm = noisy(cold + [1.0] * 20)
    start = steady_start(warm)
    assert start is not None and 6 <= start <= 12


def test_a_changing_series_is_not_steady():
    assert steady_start(noisy([1.0 + 0.05 * n for n in range(40)])) is None
    assert steady_start(noisy([1.0, 1.0, 1.0, 1.3, 1.3, 1.3] * 5)) is None
    assert steady_start([1.0] * (MIN_STEADY_BLOCKS - 1)) is None


@pytest.mark.parametrize("change", [-0.2, 0.05, 0.15])
def test_a_slow_drift_is_measured_from_end_to_end(change):
    values = noisy([1 + change * n / 99 for n in range(100)])
    assert drift(values) == pytest.approx(change, abs=0.01)


def test_noise_is_no_drift():
    assert [drift(noisy([1.0] * 60, 0.03, seed)) for seed in range(60)].count(0.0) >= 59
    assert drift([1.0] * 5) == 0.0


def test_alternation_is_no_drift():
    assert drift(noisy([1.0, 1.0, 1.0, 1.3, 1.3, 1.3, 1.35] * 9)) == 0.0


def test_bins_are_medians_in_order():
    assert bin_medians([3, 1, 2]) == [3, 1, 2]
    assert bin_medians(list(range(100)), 10) == [4.5 + 10 * n for n in range(10)]
