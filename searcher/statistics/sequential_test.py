"""Sequential test of which of two files is faster.

A look is one measurement in a fresh process; it gives one ratio. The interval is computed over
looks, because errors that all blocks of a process share do not average out within it. One shared
error depends on the role of a file (which one is opened first, which one surrounds the other).
The files swap roles from look to look, and this error is estimated and subtracted.

The test may stop after every look and is still wrong in at most ``ALPHA`` of all comparisons: each
look spends a part of ``ALPHA`` according to the elapsed share of the time (Lan and DeMets 1983,
spending function of Pocock's form). The parts are added (Bonferroni); this does not assume how
looks depend on each other, but widens the interval a little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # importing scipy.stats takes a second longer

from searcher.statistics.latency import EQUAL

ALPHA = 0.05
FEWEST_LOOKS = 4


@dataclass(frozen=True)
class Estimate:
    """Ratio of two times with an interval; ``verdict`` is faster, slower, equal or undecided."""

    ratio: float
    low: float
    high: float
    verdict: str


def spent(share: float, alpha: float = ALPHA) -> float:
    """The part of ``alpha`` that may be spent by ``share`` of the time, from 0 to 1."""
    return alpha * math.log1p((math.e - 1) * min(max(share, 0.0), 1.0))


def estimate(ratios: Sequence[float], changed: Sequence[bool], alpha: float) -> Estimate | None:
    """Estimate from one ratio per look and whether the roles were swapped in it.

    Least squares of the logarithm on a constant and the role, with Student's interval of the
    constant at confidence 1 - ``alpha``. None with fewer than ``FEWEST_LOOKS`` looks, without a
    look in each role, or with ``alpha`` <= 0.
    """
    n = len(ratios)
    roles = np.where(np.asarray(changed, dtype=bool), -1.0, 1.0)
    if n < FEWEST_LOOKS or abs(roles.sum()) == n or alpha <= 0:
        return None
    logs = np.log(np.asarray(ratios, dtype=float))
    design = np.column_stack([np.ones(n), roles])
    inverse = np.linalg.inv(design.T @ design)
    fitted = inverse @ design.T @ logs
    variance = float(np.sum((logs - design @ fitted) ** 2)) / (n - 2)
    half = float(stdtrit(n - 2, 1 - alpha / 2)) * math.sqrt(variance * inverse[0, 0])
    middle = float(fitted[0])
    low, high = math.exp(middle - half), math.exp(middle + half)
    return Estimate(math.exp(middle), low, high, _verdict(low, high))


def _verdict(low: float, high: float) -> str:
    """Faster or slower: the whole interval is beyond ``EQUAL``. Equal: all of it is within."""
    if low > 1 + EQUAL:
        return "slower"
    if high < 1 / (1 + EQUAL):
        return "faster"
    return "equal" if low >= 1 / (1 + EQUAL) and high <= 1 + EQUAL else "undecided"
