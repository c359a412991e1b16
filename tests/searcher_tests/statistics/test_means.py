"""Intervals of means: coverage of skewed values, edges, and the normal case."""

import numpy as np
import pytest
from scipy.stats import t as student

from searcher.statistics.means import influence_interval, mean_interval

Z = 1.959964
TRIALS = 1500


@pytest.mark.parametrize(("draw", "mean"), [
    (lambda rng: rng.lognormal(0, 1.3, 400), np.exp(1.3**2 / 2)),
    (lambda rng: rng.gamma(0.3, 1.0, 400), 0.3),
    (lambda rng: rng.standard_normal(400), 0.0),
    (lambda rng: rng.lognormal(0, 1, 400) - rng.lognormal(0, 1, 400), 0.0),
], ids=["lognormal", "gamma", "normal", "difference"])
def test_skewed_values_are_covered(draw, mean):
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(TRIALS):
        low, high = mean_interval(draw(rng), Z, 1.0)
        held += low <= mean <= high
    assert 0.93 <= held / TRIALS <= 0.97


def test_values_without_skew_have_students_interval():
    values = np.tile([-1.0, 1.0, 0.0, -2.0, 2.0], 200)
    low, high = mean_interval(values, Z, 1.0)
    error = values.std(ddof=1) / len(values) ** 0.5
    assert high == pytest.approx(-low) == pytest.approx(student.ppf(0.975, 900) * error, rel=1e-2)


def test_the_side_of_the_tail_is_longer():
    values = np.random.default_rng(0).lognormal(0, 1, 300)
    low, high = mean_interval(values, Z, 1.0)
    assert high - values.mean() > values.mean() - low > 0
    assert mean_interval(-values, Z, 1.0) == pytest.approx((-high, -low))


def test_equal_values_leave_room_for_others():
    low, high = mean_interval(np.full(100, 3.0), 2.0, 0.5)
    assert (low, high) == pytest.approx((3 - 0.5 * 4 / 104, 3 + 0.5 * 4 / 104))
    assert mean_interval(np.ones(1), Z, 1.0) == (-np.inf, np.inf)


def test_influences_of_a_mean_give_its_interval():
    values = np.random.default_rng(1).standard_normal(50)
    low, high = influence_interval(values.mean(), (values - values.mean()) / 50, Z, 0.0)
    half = Z * values.std(ddof=1) / 50**0.5
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))
    wider = influence_interval(values.mean(), (values - values.mean()) / 50, Z, 0.1)
    assert wider[1] - wider[0] == pytest.approx(2 * (half**2 + Z**2 * 0.1) ** 0.5)
    assert influence_interval(0.0, np.zeros(1), Z, 0.0) == (-np.inf, np.inf)
