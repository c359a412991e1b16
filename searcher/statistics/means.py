"""Intervals of means, also of skewed values."""

import math

import numpy as np
from scipy.special import ndtr, stdtrit


def mean_interval(values: np.ndarray, z: float, largest: float) -> tuple[float, float]:
    """The interval of the mean of ``values`` (n,), corrected for their skewness by Hall's cubic
    transformation (1992), with Student's quantile for the degrees of freedom that their kurtosis
    leaves to the variance (Satterthwaite 1946). Where all values are equal, it is that of a share
    of 0 other values, of which each differs by ``largest`` (Wilson 1927). Infinite for fewer than
    two values."""
    values = values.astype(float)
    n, mean = len(values), float(values.mean())
    if n < 2:
        return -math.inf, math.inf
    centred = values - mean
    variance = float((centred * centred).sum()) / (n - 1)
    if variance <= (1e-12 * abs(mean)) ** 2:
        half = largest * z * z / (n + z * z)
        return mean - half, mean + half
    error = math.sqrt(variance / n)
    scaled = centred / math.sqrt(variance)
    skew = float((scaled**3).mean()) / math.sqrt(n)
    freedom = 2 * n / max(float((scaled**4).mean()) - 1, 2.0)
    quantile = float(-stdtrit(max(freedom, 2.0), ndtr(-z)))
    return mean - error * _transformed(quantile, skew), mean - error * _transformed(-quantile, skew)


def _transformed(z: float, skew: float) -> float:
    """The inverse of Hall's transformation of a studentized mean; ``skew`` is divided by the root
    of n."""
    if abs(skew) < 1e-6:
        return z
    return 3 * (float(np.cbrt(1 + skew * (z - skew / 6))) - 1) / skew


def influence_interval(value: float, influences: np.ndarray, z: float,
                       floor: float) -> tuple[float, float]:
    """The normal interval of a statistic whose samples move it by ``influences`` (n,), which sum to
    0 (the infinitesimal jackknife, Efron 1982); ``floor`` is added to the variance."""
    n = len(influences)
    if n < 2:
        return -math.inf, math.inf
    half = z * math.sqrt(float((influences * influences).sum()) * n / (n - 1) + floor)
    return value - half, value + half
