"""Distribution-free intervals for medians and quantiles that stay valid under drift.

Order statistics bound a quantile for independent blocks. Blocks of one session are not independent:
they share, above all, their placement in memory. Therefore whole sessions are resampled, and then
the blocks of each (Davison and Hinkley 1997, section 3.8); the wider of both intervals counts.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr, bdtrik, ndtr, stdtrit  # importing scipy.stats takes a second longer

from searcher.statistics.measured import Quantile

CONFIDENCE = 0.95
BOUND = 0.99
LEAST_SESSIONS = 6
"""Fewer sessions are too few to estimate how sessions differ."""
RESAMPLES = 400


def median_rank(n: int, confidence: float) -> int:
    """Rank r, from 0: the interval of the median of ``n`` sorted values runs from value r to value
    n - 1 - r."""
    rank = _quantile((1 - confidence) / 2, n, 0.5)
    rank = rank if _below(rank - 1, n, 0.5) * 2 <= 1 - confidence else rank - 1
    return max(rank, 1) - 1


def _quantile_ranks(n: int, share: float, confidence: float) -> tuple[int, int, int]:
    """Ranks, from 0, of the lower bound of a quantile, the quantile and its upper bound."""
    low = max(_quantile((1 - confidence) / 2, n, share), 1) - 1
    high = min(_quantile(1 - (1 - confidence) / 2, n, share) + 1, n) - 1
    return low, min(math.ceil(share * n), n) - 1, high


def _below(k: int, n: int, share: float) -> float:
    """Probability of at most ``k`` successes among ``n``."""
    return 0.0 if k < 0 else float(bdtr(k, n, share))


def _quantile(chance: float, n: int, share: float) -> int:
    """The ``chance`` quantile of the number of successes among ``n``."""
    k: int = max(math.ceil(bdtrik(chance, n, share)), 0)
    while k > 0 and _below(k - 1, n, share) >= chance:
        k -= 1
    while _below(k, n, share) < chance:
        k += 1
    return k


def quantile(
    values: Sequence[float] | np.ndarray, share: float, confidence: float = CONFIDENCE
) -> Quantile:
    """The ``share`` quantile. It is None unless the largest value exceeds it with probability
    ``BOUND``: this needs 7 values for the median, 44 for p90, 459 for p99.
    """
    n = len(values)
    if n == 0 or share**n > 1 - BOUND:
        return Quantile(None, None, None)
    ordered = np.sort(np.asarray(values, dtype=float))
    low, middle, high = _quantile_ranks(n, share, confidence)
    return Quantile(float(ordered[middle]), float(ordered[low]), float(ordered[high]))


def session_interval(
    values: np.ndarray, session: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """An interval of the median by resampling sessions and blocks. None with fewer than
    ``LEAST_SESSIONS`` sessions.

    ``session`` has the session of each value, in ascending order. The interval consists of
    percentiles of the resampled medians, widened for the small number of sessions (Hesterberg
    2015, section 4.3). The seed is fixed: equal values give equal intervals.
    """
    starts = np.flatnonzero(np.diff(session, prepend=-1))
    m = len(starts)
    if m < LEAST_SESSIONS:
        return None
    sizes = np.diff(starts, append=len(values))
    drawn = np.random.default_rng(0)
    medians = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        chosen = drawn.integers(0, m, m)
        lengths = sizes[chosen]
        places = (drawn.random(lengths.sum()) * np.repeat(lengths, lengths)).astype(int)
        medians[i] = np.median(values[np.repeat(starts[chosen], lengths) + places])
    tail = float(ndtr(math.sqrt(m / (m - 1)) * stdtrit(m - 1, (1 - confidence) / 2)))
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(low), float(high)


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), 95 % by default."""
    if n <= 0:
        raise ValueError(f"an accuracy needs n > 0, got {n}")
    p, zz = hits / n, z * z
    middle = (p + zz / (2 * n)) / (1 + zz / n)
    half = z / (1 + zz / n) * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(
    baseline: np.ndarray, candidate: np.ndarray, z: float = 1.959964
) -> tuple[float, float, float]:
    """Baseline minus candidate accuracy over the same samples, with its 95 % interval.

    Agresti and Min (2005): Wald's interval after adding half an observation to each cell.
    """
    first, second = np.asarray(baseline, dtype=bool), np.asarray(candidate, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"paired samples differ in number: {first.shape} and {second.shape}")
    n = len(first)
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    adjusted, b, c = n + 2, lost + 0.5, won + 0.5
    middle = (b - c) / adjusted
    half = z * math.sqrt(max(b + c - (b - c) ** 2 / adjusted, 0.0)) / adjusted
    return (lost - won) / n, middle - half, middle + half
