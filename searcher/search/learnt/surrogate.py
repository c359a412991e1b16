"""The surrogate model of a campaign: costs of a recipe, and quality drop after training, relative
to the quality's scale.

    log(cost / baseline's) = w_cost . steps              w_cost ~ N(0, COST_DEVIATION^2)
    drop = prior_drop(MACs, bytes) + w_drop . steps      w_drop ~ N(0, DROP_DEVIATION^2)

``steps`` are the features of a recipe (``recipes/recipe_features.py``), weights are independent.
Bayesian linear regression (Bishop 2006, section 3.3) needs only sums over the
candidates, so its memory and time per prediction do not grow with their number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DROP_DEVIATION, DROP_NOISE = 0.25, 0.125
"""Prior standard deviation of the quality drop of one step, and standard deviation of the drop
between candidates of equal features. These and the following are in units of the reach: the drop
beyond which a candidate is worth nothing (``searcher.search.acquisition``)."""
COST_DEVIATION, COST_NOISE = 1.5, 0.3
"""The same for the logarithm of a cost."""
COSTS = ("macs", "file_bytes", "latency_s")
FEASIBILITY_SCALE = 0.125
LARGEST_DROP, LARGEST_PRIOR_DROP = 1.0, 2.0
"""Upper bound of an observed drop, so that one destroyed model does not outweigh all others; and
of the prior drop."""
PRIOR_DROP, TENTH_OF_MACS, HUNDREDTH_OF_BYTES, PRIOR_EXPONENT = 0.125, 0.1, 0.01, 6
"""Prior quality drop: ``PRIOR_DROP`` at a tenth of the MACs or a hundredth of the bytes,
whichever is closer. It grows with a high power of the logarithm of the cost ratio."""


@dataclass(frozen=True)
class Expectation:
    """Expected quality drop after training relative to the quality's scale, with its standard
    deviation."""

    drop: float
    deviation: float


class Regression:
    """Bayesian linear regression from ``size`` inputs to ``outputs`` outputs; the weights have a
    normal prior of standard deviation ``spread``, one for all or one for each."""

    def __init__(self, size: int, outputs: int, spread: float | Sequence[float], noise: float
                 ) -> None:
        self._noise = noise
        self._precision = np.eye(size) / np.asarray(spread, dtype=float) ** 2
        self._evidence = np.zeros((size, outputs))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        self._precision += np.outer(x, x) / self._noise**2
        self._evidence += np.outer(x, y) / self._noise**2

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """Expected outputs at ``x`` and their standard deviation without noise."""
        found = np.linalg.solve(self._precision, np.column_stack([self._evidence, x]))
        return x @ found[:, :-1], math.sqrt(max(float(x @ found[:, -1]), 0.0))


class Surrogate:
    """Regressions of costs and quality drop; ``steps`` is ``Features.of(recipe)``. ``reach`` is
    the unit of drops."""

    def __init__(self, baseline: Mapping[str, float], size: int, reach: float) -> None:
        self._baseline, self._reach = baseline, reach
        self._drop = Regression(size, 1, DROP_DEVIATION, DROP_NOISE)
        self._costs = Regression(size, len(COSTS), COST_DEVIATION, COST_NOISE)

    def add_costs(self, steps: Sequence[float], values: Mapping[str, float]) -> None:
        """Add the measured costs of a candidate."""
        self._costs.add(np.asarray(steps), np.array(
            [math.log(values[name] / self._baseline[name]) for name in COSTS]))

    def add_drop(self, steps: Sequence[float], values: Mapping[str, float], drop: float) -> None:
        """Add the quality drop of a candidate with these costs."""
        prior = min(self._prior_drop(values), LARGEST_DROP)
        residual = min(drop / self._reach, LARGEST_DROP) - prior
        self._drop.add(np.asarray(steps), np.array([residual]))

    def expected_costs(self, steps: Sequence[float]) -> dict[str, float]:
        """Expected MACs, bytes and latency of a recipe that is not built yet."""
        logs, _ = self._costs.predict(np.asarray(steps))
        return {name: self._baseline[name] * math.exp(value)
                for name, value in zip(COSTS, logs.tolist(), strict=True)}

    def expected_drop(self, steps: Sequence[float], values: Mapping[str, float]) -> Expectation:
        """Expected quality drop of a candidate with these costs."""
        residual, deviation = self._drop.predict(np.asarray(steps))
        return Expectation(self._reach * (self._prior_drop(values) + float(residual[0])),
                           self._reach * deviation)

    def _prior_drop(self, values: Mapping[str, float]) -> float:
        macs, file_bytes = (math.log(values[name] / self._baseline[name])
                            for name in ("macs", "file_bytes"))
        compression = max(macs / math.log(TENTH_OF_MACS), file_bytes / math.log(HUNDREDTH_OF_BYTES),
                      0.0)
        prior: float = PRIOR_DROP * compression**PRIOR_EXPONENT
        return min(prior, LARGEST_PRIOR_DROP)


def feasibility_probability(expected: Expectation, allowed_drop: float, reach: float) -> float:
    """Probability that the quality drop is at most ``allowed_drop`` (logistic)."""
    scale = math.sqrt(3) / math.pi * math.hypot(FEASIBILITY_SCALE * reach, expected.deviation)
    return 1 / (1 + math.exp(min((expected.drop - allowed_drop) / scale, 50.0)))
