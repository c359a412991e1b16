"""Which of two files is faster, with a rule that may be asked after every look.

A look is a measurement in a fresh process, and gives one ratio. Looks are the units of the
interval: what blocks of one process have in common cannot narrow it. To stop when the answer is
there, and still to be wrong in at most ``ALPHA`` of all comparisons, each look may spend a part of
it: by the time that has passed of the time that there is (Lan and DeMets 1983, Pocock's form). The
parts are added (Bonferroni), which asks nothing about how looks depend on each other and costs some
width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # scipy.stats starts a second later

from searcher.measurement import EQUAL

ALPHA = 0.05
FEWEST_LOOKS = 3


@dataclass(frozen=True)
class Estimate:
    """Ratio of two times with an interval; ``verdict`` is faster, slower, equal or undecided."""

    ratio: float
    low: float
    high: float
    verdict: str


def spent(share: float, alpha: float = ALPHA) -> float:
    """What may have been spent when ``share`` of the time, 0 to 1, is over."""
    return alpha * math.log1p((math.e - 1) * min(max(share, 0.0), 1.0))


def estimate(ratios: Sequence[float], alpha: float) -> Estimate | None:
    """From one ratio per look; Student's interval of the mean logarithm, with 1 - ``alpha``.

    None below ``FEWEST_LOOKS``, or with nothing to spend.
    """
    n = len(ratios)
    if n < FEWEST_LOOKS or alpha <= 0:
        return None
    logs = np.log(np.asarray(ratios, dtype=float))
    half = float(stdtrit(n - 1, 1 - alpha / 2)) * float(np.std(logs, ddof=1)) / math.sqrt(n)
    middle = float(np.mean(logs))
    low, high = math.exp(middle - half), math.exp(middle + half)
    return Estimate(math.exp(middle), low, high, _verdict(low, high))


def _verdict(low: float, high: float) -> str:
    """A difference counts when all of the interval is beyond ``EQUAL``, equality within it."""
    if low > 1 + EQUAL:
        return "slower"
    if high < 1 / (1 + EQUAL):
        return "faster"
    return "equal" if low >= 1 / (1 + EQUAL) and high <= 1 + EQUAL else "undecided"
