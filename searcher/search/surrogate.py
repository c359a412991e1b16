"""The surrogate model: costs of a recipe and accuracy lost after training, learnt in the campaign.

    log(cost / baseline's) = effect . steps              effect ~ N(0, EFFECT^2), each on its own
    drop = believed(MACs, bytes) + harm . steps          harm ~ N(0, HARM^2)

``steps`` is a recipe as ``features`` writes it. Bayesian linear regression
(Bishop 2006, section 3.3): a few sums say it all, however many candidates were trained.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

HARM, NOISE = 0.018, 0.012
"""Accuracy (absolute) that one step may cost more or less than believed; what a training gives
beside what is expected of it."""
EFFECT, SCATTER = 1.5, 0.3
"""The same of the logarithm of a cost."""
COSTS = ("macs", "file_bytes", "latency_s")
SOFTNESS = 0.01
WORST_DROP, WORST_BELIEVED = 0.05, 0.2
"""Most accuracy that one training counts for: one that destroyed the model must not outweigh all
that went well. Most that is believed at first."""
POINT, TENTH_OF_MACS, HUNDREDTH_OF_BYTES, STEEPNESS = 0.01, 0.1, 0.01, 6
"""Accuracy believed to be lost before anything is known: a point with a tenth of the MACs or a
hundredth of the bytes, whichever is nearer, and steeply more beyond."""


@dataclass(frozen=True)
class Expectation:
    """Accuracy (absolute) that training is expected to lose, give or take ``deviation``."""

    drop: float
    deviation: float


class Regression:
    """``outputs`` linear functions of ``size`` inputs, their weights of like prior ``spread``."""

    def __init__(self, size: int, outputs: int, spread: float, noise: float) -> None:
        self._noise = noise
        self._precision = np.eye(size) / spread**2
        self._evidence = np.zeros((size, outputs))

    def learn(self, x: np.ndarray, y: np.ndarray) -> None:
        self._precision += np.outer(x, x) / self._noise**2
        self._evidence += np.outer(x, y) / self._noise**2

    def of(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """The outputs expected at ``x`` and their standard deviation, noise aside."""
        found = np.linalg.solve(self._precision, np.column_stack([self._evidence, x]))
        return x @ found[:, :-1], math.sqrt(max(float(x @ found[:, -1]), 0.0))


class Surrogate:
    """Learns from candidates; ``steps`` is ``Features.of(recipe)``."""

    def __init__(self, baseline: Mapping[str, float], size: int) -> None:
        self._baseline = baseline
        self._harm = Regression(size, 1, HARM, NOISE)
        self._effect = Regression(size, len(COSTS), EFFECT, SCATTER)

    def measured(self, steps: Sequence[float], values: Mapping[str, float]) -> None:
        """A candidate has these costs."""
        self._effect.learn(np.asarray(steps), np.array(
            [math.log(values[name] / self._baseline[name]) for name in COSTS]))

    def trained(self, steps: Sequence[float], values: Mapping[str, float], drop: float) -> None:
        """A candidate of these costs lost ``drop`` once trained."""
        beyond = min(drop, WORST_DROP) - min(self._believed(values), WORST_DROP)
        self._harm.learn(np.asarray(steps), np.array([beyond]))

    def costs(self, steps: Sequence[float]) -> dict[str, float]:
        """MACs, bytes and latency of what nobody has built yet."""
        logs, _ = self._effect.of(np.asarray(steps))
        return {name: self._baseline[name] * math.exp(value)
                for name, value in zip(COSTS, logs.tolist(), strict=True)}

    def loss(self, steps: Sequence[float], values: Mapping[str, float]) -> Expectation:
        """For a candidate with ``values`` that is not trained yet."""
        beyond, deviation = self._harm.of(np.asarray(steps))
        return Expectation(self._believed(values) + float(beyond[0]), deviation)

    def _believed(self, values: Mapping[str, float]) -> float:
        macs, file_bytes = (math.log(values[name] / self._baseline[name])
                            for name in ("macs", "file_bytes"))
        stretch = max(macs / math.log(TENTH_OF_MACS), file_bytes / math.log(HUNDREDTH_OF_BYTES),
                      0.0)
        believed: float = POINT * stretch**STEEPNESS
        return min(believed, WORST_BELIEVED)


def feasibility_probability(expected: Expectation, allowed_drop: float) -> float:
    """Probability that a candidate keeps ``allowed_drop`` once trained (logistic)."""
    scale = math.sqrt(3) / math.pi * math.hypot(SOFTNESS, expected.deviation)
    return 1 / (1 + math.exp(min((expected.drop - allowed_drop) / scale, 50.0)))
