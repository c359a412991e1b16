"""Seconds of builders: what trainings take, and what new candidates gain for theirs."""

from collections import deque
from collections.abc import Mapping

import numpy as np

from searcher.search.learnt.surrogate import Regression

RECENT = 16
"""New candidates whose gain per second counts."""
FIXED = 0.2
"""Part of a training's seconds that does not depend on MACs, before any training was measured."""
SPREAD, NOISE = 0.5, 0.3
"""Of the coefficients and of one training, relative to the expected seconds."""
SHORT_SHARE = 0.25


class Effort:
    """``full_s`` is the expected duration of full training of the baseline."""

    def __init__(self, full_s: float) -> None:
        self._unit_s = {"full": max(full_s, 1e-3), "short": max(full_s, 1e-3) * SHORT_SHARE}
        self._seconds: Mapping[str, Regression] = {
            fidelity: Regression(2, 1, SPREAD, NOISE) for fidelity in self._unit_s}
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def add_training(self, fidelity: str, macs_share: float, took_s: float) -> None:
        """``macs_share`` is relative to the baseline; full training continues the short one, and
        its seconds are those beyond."""
        if fidelity in self._unit_s and took_s > 0:
            row = np.array([1.0, macs_share])
            prior = FIXED + macs_share
            self._seconds[fidelity].add(row, np.array([took_s / self._unit_s[fidelity] - prior]))

    def training_s(self, fidelity: str, macs_share: float) -> float:
        """Expected seconds of one training."""
        found, _ = self._seconds[fidelity].predict(np.array([1.0, macs_share]))
        prior = FIXED + macs_share
        return self._unit_s[fidelity] * max(prior + float(found[0]), 0.1 * prior)

    def add_candidate(self, gain: float, took_s: float) -> None:
        """A new candidate was repaired and measured, or refused before."""
        self._recent.append((gain, took_s))

    @property
    def candidate_s(self) -> float | None:
        """Mean seconds of a recent new candidate, None before the first one."""
        if not self._recent:
            return None
        return max(sum(s for _, s in self._recent) / len(self._recent), 1e-3)

    @property
    def gain_per_second(self) -> float | None:
        """Of the recent new candidates; None until there are enough."""
        if len(self._recent) < RECENT // 2:
            return None
        return sum(g for g, _ in self._recent) / max(sum(s for _, s in self._recent), 1e-3)
