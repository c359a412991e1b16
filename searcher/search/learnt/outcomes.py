"""What training makes of a quality drop, learnt from the trainings of the campaign.

    drop after = prior(drop before) + a + b * drop before + (c + d * drop before) * rate
    deviation of one training = s * (FLOOR + share * |drop before|)

One regression for each pair of fidelities, in units of the quality's scale; ``rate`` is the place
of the learning rate in its range, -0.5 to 0.5; a, b, c, d ~ normal, wide. ``s`` is estimated from
the errors of earlier predictions, with the weight of ``PRIOR_TRAININGS`` trainings at 1. Where most
trainings ended after the short one, what full training reaches is predicted in two steps.
"""

import math

import numpy as np

from searcher.search.learnt.surrogate import Expectation, Regression

FLOOR = 0.004
WON_BACK = {"repaired": (0.65, 0.15)}
"""By fidelity before: share of a drop that training wins back, before anything is known, and its
deviation. A damage that was repaired without training is won back more surely than what is left
after short training."""
WON_BACK_OF_OTHERS = (0.5, 0.1)
SPREADS = (0.02, 0.15, 0.03, 0.3)
PRIOR_TRAININGS = 4
CONFIDENCE = 2.0
"""Standard deviations below the expected drop that a candidate is given before it is refused."""


class Outcomes:
    """Drops after ``after`` from drops after ``before``, both names of fidelities."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Outcome] = {}

    def add(self, before: str, drop: float, after: str, reached: float, rate: float = 0.0) -> None:
        self._of(before, after).add(drop, reached, rate)

    def expected(self, before: str, drop: float, after: str, rate: float = 0.0) -> Expectation:
        """The drop that a training reaches, with the deviation of one training."""
        direct, first = self._of(before, after), self._of(before, "short")
        if after != "full" or before == "short" or direct.count >= first.count:
            return direct.expected(drop, rate)
        short, second = first.expected(drop, rate), self._of("short", after)
        found = second.expected(short.drop, rate)
        worse, better = (second.expected(short.drop + sign * short.deviation, rate).drop
                         for sign in (1, -1))
        return Expectation(found.drop, math.hypot(found.deviation, (worse - better) / 2))

    def optimistic(self, before: str, drop: float, after: str, rate: float = 0.0) -> float:
        """A drop that few trainings undercut."""
        found = self.expected(before, drop, after, rate)
        return found.drop - CONFIDENCE * found.deviation

    def _of(self, before: str, after: str) -> "_Outcome":
        if (before, after) not in self._known:
            self._known[before, after] = _Outcome(*WON_BACK.get(before, WON_BACK_OF_OTHERS))
        return self._known[before, after]


class _Outcome:
    def __init__(self, won_back: float, share: float) -> None:
        self._kept, self._share = 1 - won_back, share
        # Rows are divided by their deviation, so that the regression's noise is 1.
        self._regression = Regression(len(SPREADS), 1, SPREADS, 1.0)
        self._squares, self.count = float(PRIOR_TRAININGS), 0

    def add(self, drop: float, reached: float, rate: float) -> None:
        expected = self.expected(drop, rate)
        self._squares += (reached - expected.drop) ** 2 / (expected.deviation**2 / self._factor)
        self.count += 1
        weight = 1 / self._deviation(drop)
        self._regression.add(weight * _row(drop, rate),
                             np.array([weight * (reached - self._prior(drop))]))

    def expected(self, drop: float, rate: float) -> Expectation:
        residual, unsure = self._regression.predict(_row(drop, rate))
        deviation = math.hypot(unsure, self._deviation(drop))
        return Expectation(self._prior(drop) + float(residual[0]),
                           deviation * math.sqrt(self._factor))

    def _prior(self, drop: float) -> float:
        return drop * self._kept if drop > 0 else drop

    def _deviation(self, drop: float) -> float:
        return FLOOR + self._share * abs(drop)

    @property
    def _factor(self) -> float:
        return self._squares / (PRIOR_TRAININGS + self.count)


def _row(drop: float, rate: float) -> np.ndarray:
    return np.array([1.0, drop, rate, rate * drop])
