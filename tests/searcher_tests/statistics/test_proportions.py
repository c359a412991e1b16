"""Intervals of weighted sums of proportions: Wilson's for one, coverage for many small ones."""

import numpy as np
import pytest

from searcher.statistics.intervals import paired_difference, wilson
from searcher.statistics.proportions import (
    extreme_shares,
    paired_variance_floor,
    unbiased_variances,
    wilson_limits,
)

Z = 1.959964


def mean_limits(hits, sizes, z=Z):
    shares, sizes = np.array(hits) / sizes, np.array(sizes, float)
    weights = np.full(len(sizes), 1 / len(sizes))
    low, high = extreme_shares(
        shares, sizes, weights, unbiased_variances(shares, sizes), None, z)
    return float(low.mean()), float(high.mean())


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (17, 20), (20, 20), (3, 400), (200, 400)])
@pytest.mark.parametrize("z", [1.0, Z, 3.5])
def test_one_share_has_wilsons_interval(hits, n, z):
    low, high = wilson_limits(np.array([hits / n]), np.array([float(n)]), np.array([z]))
    assert (float(low[0]), float(high[0])) == pytest.approx(wilson(hits, n, z), abs=1e-12)
    assert mean_limits([hits], [n], z) == pytest.approx(wilson(hits, n, z), abs=1e-9)


@pytest.mark.parametrize(("n", "parts", "chances"), [
    (400, [0.95, 0.05], [0.98, 0.7]), (300, [0.1] * 10, [0.9] * 10),
    (500, [0.01] * 100, [0.9] * 100)],
    ids=["one rare", "ten", "a hundred of about five samples"])
def test_mean_shares_are_covered(n, parts, chances):
    rng, trials, held = np.random.default_rng(3), 800, 0
    for _ in range(trials):
        sizes = rng.multinomial(n, parts)
        occurs = sizes > 0
        low, high = mean_limits(rng.binomial(sizes, chances)[occurs], sizes[occurs])
        held += low <= np.mean(chances) <= high
    assert 0.93 <= held / trials <= 0.97


def test_shares_at_the_edge_keep_an_interval():
    low, high = mean_limits([20, 380], [20, 380])
    assert 0.85 < low < 1.0 == pytest.approx(high)
    low, high = mean_limits([1] * 50, [1] * 50)
    assert 0.8 < low < 1.0 == pytest.approx(high)


def test_many_strata_of_equal_shares_are_one_sample():
    low, high = mean_limits([9] * 50, [10] * 50)
    assert (low, high) == pytest.approx(wilson(450, 500), abs=6e-3)


def test_a_lost_and_a_won_share_are_a_paired_difference():
    lost, won, n = 30, 12, 400
    shares, sizes = np.array([lost, won]) / n, np.full(2, float(n))
    covariance = lost * won / n**3
    low, high = extreme_shares(shares, sizes, np.array([1.0, -1.0]),
                               unbiased_variances(shares, sizes),
                               np.array([covariance, -covariance]), Z)
    before = np.arange(n) >= won
    after = ~((np.arange(n) >= won) & (np.arange(n) < won + lost))
    expected = paired_difference(before, after)
    assert (low[0] - low[1], high[0] - high[1]) == pytest.approx(expected[1:], abs=3e-3)


def test_half_an_observation_in_each_cell():
    assert paired_variance_floor(np.array([98.0]), np.ones(1)) == pytest.approx(1e-4)
    many = paired_variance_floor(np.full(100, 8.0), np.full(100, 0.01))
    assert many == pytest.approx(1e-4 / 100)
