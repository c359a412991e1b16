"""Intervals of weighted sums of proportions, such as a mean recall, and of their differences."""

import math

import numpy as np

ROUNDS = 40


def wilson_limits(shares: np.ndarray, sizes: np.ndarray,
                  z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's limits (1927) of each share of ``sizes`` observations, with a ``z`` for each."""
    zz = z * z / sizes
    middle = (shares + zz / 2) / (1 + zz)
    half = np.sqrt(np.maximum(shares * (1 - shares) * zz + zz * zz / 4, 0.0)) / (1 + zz)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def extreme_shares(
    shares: np.ndarray, sizes: np.ndarray, weights: np.ndarray, variances: np.ndarray,
    shared: np.ndarray | None, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """The shares at the lower and at the upper limit of ``sum(weights * shares)``.

    Each share moves to its Wilson limit at ``z`` times its correlation with the sum, so that one
    share alone has Wilson's interval, and many small strata have a normal one with their own
    variance (Yan and Su 2010 give all strata the same part). ``sizes`` are numbers of observations,
    also effective ones; ``variances`` are unbiased estimates of the shares' variances; ``shared``
    holds, for each share, the covariance with the weighted sum of the others. A share of 0 or 1
    keeps an interval.
    """
    others = np.zeros_like(shares) if shared is None else shared
    # Small strata seem to vary less than they do: a share of 0 or 1 not at all.
    estimated = float((weights * (weights * variances + others)).sum()) if len(shares) > 1 else 0.0
    starts = weights / np.sqrt(sizes)
    starts = z * starts / math.sqrt(float((starts * starts).sum()))
    sides = [-starts, starts]
    for _ in range(ROUNDS):
        correlations, totals = zip(*(
            _correlations(_moved(shares, sizes, side), sizes, weights, others)
            for side in sides), strict=True)
        widened = z * math.sqrt(max(1.0, 2 * estimated / sum(totals)))
        moved = [-widened * correlations[0], widened * correlations[1]]
        settled = np.allclose(moved, sides, rtol=1e-6, atol=1e-9)
        sides = [(old + new) / 2 for old, new in zip(sides, moved, strict=True)]
        if settled:
            break
    return _moved(shares, sizes, sides[0]), _moved(shares, sizes, sides[1])


def _correlations(shares: np.ndarray, sizes: np.ndarray, weights: np.ndarray,
                  shared: np.ndarray) -> tuple[np.ndarray, float]:
    """Of each share with the weighted sum, and the variance of the sum."""
    own = np.maximum(shares * (1 - shares), 1e-12) / sizes
    covariances = weights * own + shared
    variance = max(float((weights * covariances).sum()),
                   1e-3 * float((weights * weights * own).sum()))
    return np.clip(covariances / np.sqrt(own * variance), -1.0, 1.0), variance


def _moved(shares: np.ndarray, sizes: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Lower limits where ``z`` is negative, upper limits elsewhere."""
    low, high = wilson_limits(shares, sizes, np.abs(z))
    return np.where(z < 0, low, high)


def unbiased_variances(shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Of shares of ``sizes`` observations; one observation alone has the variance that all shares
    have together."""
    pooled = float(shares.mean()) * (1 - float(shares.mean()))
    return np.where(sizes > 1, shares * (1 - shares) / np.maximum(sizes - 1, 1), pooled / sizes)


def paired_variance_floor(sizes: np.ndarray, weights: np.ndarray) -> float:
    """What half an observation in each discordant cell (Agresti and Min 2005) adds to the variance
    of a weighted sum of paired differences; each stratum by its part in the variance."""
    parts = weights * weights / sizes
    return float((parts / parts.sum() * weights * weights / (sizes + 2) ** 2).sum())
