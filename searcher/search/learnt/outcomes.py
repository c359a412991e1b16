"""What training makes of a quality drop, learnt from the trainings of the campaign.

    drop after = prior(drop before) + a + b * drop before      a, b ~ normal, wide
    deviation of one training = s * (FLOOR + SHARE * |drop before|)

One regression for each pair of fidelities, in units of the quality's scale. ``s`` is estimated from
the errors of earlier predictions, with the weight of ``PRIOR_TRAININGS`` trainings at 1.
"""

import math

import numpy as np

from searcher.search.learnt.surrogate import Expectation, Regression

FLOOR, SHARE = 0.004, 0.1
WON_BACK = 0.5
"""Share of a drop that training wins back, before anything is known."""
SPREADS = (0.01, 0.15)
PRIOR_TRAININGS = 4
CONFIDENCE = 2.0
"""Standard deviations below the expected drop that a candidate is given before it is refused."""


class Outcomes:
    """Drops after ``after`` from drops after ``before``, both names of fidelities."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Outcome] = {}

    def add(self, before: str, drop: float, after: str, reached: float) -> None:
        self._of(before, after).add(drop, reached)

    def expected(self, before: str, drop: float, after: str) -> Expectation:
        """The drop that a training reaches, with the deviation of one training."""
        return self._of(before, after).expected(drop)

    def optimistic(self, before: str, drop: float, after: str) -> float:
        """A drop that few trainings undercut."""
        found = self.expected(before, drop, after)
        return found.drop - CONFIDENCE * found.deviation

    def _of(self, before: str, after: str) -> "_Outcome":
        return self._known.setdefault((before, after), _Outcome())


class _Outcome:
    def __init__(self) -> None:
        # Rows are divided by their deviation, so that the regression's noise is 1.
        self._regression = Regression(2, 1, SPREADS, 1.0)
        self._squares, self._trainings = float(PRIOR_TRAININGS), PRIOR_TRAININGS

    def add(self, drop: float, reached: float) -> None:
        expected = self.expected(drop)
        factor = self._squares / self._trainings
        self._squares += (reached - expected.drop) ** 2 / (expected.deviation**2 / factor)
        self._trainings += 1
        weight = 1 / _deviation(drop)
        self._regression.add(np.array([weight, weight * drop]),
                             np.array([weight * (reached - _prior(drop))]))

    def expected(self, drop: float) -> Expectation:
        residual, unsure = self._regression.predict(np.array([1.0, drop]))
        deviation = math.hypot(unsure, _deviation(drop))
        return Expectation(_prior(drop) + float(residual[0]),
                           deviation * math.sqrt(self._squares / self._trainings))


def _prior(drop: float) -> float:
    return drop * (1 - WON_BACK) if drop > 0 else drop


def _deviation(drop: float) -> float:
    return FLOOR + SHARE * abs(drop)
