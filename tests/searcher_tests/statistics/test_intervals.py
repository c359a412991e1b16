import math

import numpy as np
import pytest
from scipy.stats import binom

from searcher.statistics.intervals import (
    CONFIDENCE,
    LEAST_SESSIONS,
    median_rank,
    quantile,
    session_interval,
)


@pytest.mark.parametrize("n", [*range(6, 60), 120, 1000])
def test_median_interval_covers_and_is_tight(n: int) -> None:
    rank = median_rank(n, CONFIDENCE) + 1
    assert 1 - 2 * binom.cdf(rank - 1, n, 0.5) >= 0.95
    if rank < n // 2:
        assert 1 - 2 * binom.cdf(rank, n, 0.5) < 0.95, "one rank further in holds it too"


def test_the_interval_of_few_values_is_their_range() -> None:
    assert [median_rank(n, CONFIDENCE) for n in (1, 2, 3, 5)] == [0, 0, 0, 0]


@pytest.mark.parametrize(("share", "needed"), [(0.5, 7), (0.9, 44), (0.99, 459)])
def test_quantile_is_refused_until_n_bounds_it(share: float, needed: int) -> None:
    values = [float(v) for v in range(needed)]
    assert quantile(values[1:], share).value is None
    found = quantile(values, share)
    assert found.value is not None and found.low is not None
    assert found.low <= found.value <= (found.high or 0) == values[-1]
    assert quantile([], share).high is None


@pytest.mark.parametrize(("share", "n"), [(0.9, 44), (0.9, 333), (0.99, 459), (0.99, 5000)])
def test_quantile_interval_covers(share: float, n: int) -> None:
    found = quantile([float(v) for v in range(1, n + 1)], share)
    assert found.value == math.ceil(share * n)
    covered = binom.cdf((found.high or 0) - 1, n, share) - binom.cdf((found.low or 0) - 1, n, share)
    assert covered >= 0.95


def sessions(rng: np.random.Generator, count: int, between: float) -> tuple[np.ndarray, np.ndarray]:
    """Twenty blocks per session, around session levels that differ by ``between``; median 1."""
    levels = 1 + between * rng.standard_normal(count)
    values = np.repeat(levels, 20) + 0.001 * rng.standard_normal(20 * count)
    return values, np.repeat(np.arange(count), 20)


def test_resampled_sessions_hold_the_median_that_order_statistics_lose() -> None:
    rng = np.random.default_rng(7)
    held = lost = 0
    for _ in range(40):
        values, session = sessions(rng, 10, between=0.01)
        low, high = session_interval(values, session) or (math.inf, -math.inf)
        held += low <= 1 <= high
        ordered, place = np.sort(values), median_rank(len(values), CONFIDENCE)
        lost += not ordered[place] <= 1 <= ordered[-1 - place]
    assert held >= 36 and lost >= 12


def test_too_few_sessions_have_no_interval_of_their_own() -> None:
    values, session = sessions(np.random.default_rng(1), LEAST_SESSIONS - 1, 0.01)
    assert session_interval(values, session) is None


def test_sessions_may_be_of_any_length() -> None:
    session = np.repeat(np.arange(7), [1, 30, 2, 5, 1, 1, 9])
    low, high = session_interval(np.linspace(1, 2, 49), session) or (0, 0)
    assert 1 <= low < high <= 2
