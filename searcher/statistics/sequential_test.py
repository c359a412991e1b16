"""Which of two files is faster, with a rule that may be asked after every look.

A look is a measurement in a fresh process, and gives one ratio. Looks are the units of the
interval: what blocks of one process have in common cannot narrow it. A part of what they have in
common goes with the role of a file (which one is opened first, which one surrounds the other): the
files change roles from look to look, and that part is estimated and taken off. To stop when the
answer is there, and still to be wrong in at most ``ALPHA`` of all comparisons, each look may spend
a part of it: by the time that has passed of the time that there is (Lan and DeMets 1983, Pocock's
form). The parts are added (Bonferroni), which asks nothing about how looks depend on each other and
costs some width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # scipy.stats starts a second later

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
    """What may have been spent when ``share`` of the time, 0 to 1, is over."""
    return alpha * math.log1p((math.e - 1) * min(max(share, 0.0), 1.0))


def estimate(ratios: Sequence[float], changed: Sequence[bool], alpha: float) -> Estimate | None:
    """From one ratio per look, and whether the files had changed roles in it: least squares of the
    logarithm over 1 and the role, and Student's interval of the first, with 1 - ``alpha``.

    None below ``FEWEST_LOOKS``, without a look in each role, or with nothing to spend.
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
    """A difference counts when all of the interval is beyond ``EQUAL``, equality within it."""
    if low > 1 + EQUAL:
        return "slower"
    if high < 1 / (1 + EQUAL):
        return "faster"
    return "equal" if low >= 1 / (1 + EQUAL) and high <= 1 + EQUAL else "undecided"
