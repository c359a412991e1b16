"""The acquisition function: expected hypervolume gain per second of a builder.

    a new recipe       costs and quality drop predicted by the surrogate   seconds of a candidate
    training of one    costs and drop after repair are measured, drop      seconds of its training
    that was repaired  after training predicted by ``outcomes.py``
"""

from collections.abc import Mapping, Sequence

from searcher.ledger.tables.search_state import TrainingOutcome
from searcher.pareto.front import Point
from searcher.pareto.hypervolume import REACH, hypervolume_gain
from searcher.search.learnt.effort import Effort
from searcher.search.learnt.outcomes import Outcomes
from searcher.search.learnt.surrogate import Expectation, Surrogate, feasibility_probability
from searcher.search.recipes.recipe_features import Features
from searcher.search.space import Space
from searcher.spec.campaign import Campaign
from searcher.spec.fidelity import REPAIRED
from searcher.spec.objectives import DROP, quality_of, scale_of
from searcher.spec.recipe import Recipe

REACH_BEYOND, LEAST_REACH = 4.0, 0.004
"""The reach is this multiple of the allowed quality drop, and at least ``LEAST_REACH``. A larger
one weighs cost more heavily against quality."""
NODES = ((-1.7320508, 1 / 6), (0.0, 2 / 3), (1.7320508, 1 / 6))
"""Gauss-Hermite quadrature of a normal distribution: standard deviations and weights."""
UNKNOWN_CANDIDATE_S = 2.0
NO_COST_S = 1.0
"""Seconds of a training whose result another recipe of the same training has made already."""


def reach_of(constraints: Mapping[str, float], scale: float) -> float:
    """The quality drop, relative to ``scale``, beyond which a candidate is worth nothing."""
    allowed = constraints.get(DROP)
    return REACH if allowed is None else max(REACH_BEYOND * allowed / scale, LEAST_REACH)


class Acquisition:
    """Acquisition function of one campaign, fitted to its candidates. ``baseline`` holds the
    baseline's values. Drops are relative to the scale of the quality."""

    def __init__(self, campaign: Campaign, space: Space, baseline: Mapping[str, float],
                 effort: Effort) -> None:
        self._campaign, self._space, self._baseline = campaign, space, baseline
        self._quality, self._scale = quality_of(campaign.objectives), scale_of(campaign.objectives)
        self.reach = reach_of(campaign.constraints, self._scale)
        allowed = campaign.constraints.get(DROP)
        self._allowed = None if allowed is None else allowed / self._scale
        self._features = Features(space)
        self._surrogate = Surrogate(baseline, len(self._features.names), self.reach)
        self.outcomes, self.effort = Outcomes(), effort
        self._trained: dict[str, float] = {}

    def add_costs(self, recipe: Recipe, values: Mapping[str, float]) -> None:
        """Add the measured costs of a recipe."""
        self._surrogate.add_costs(self._features.of(recipe), values)

    def add_drop(self, recipe: Recipe, values: Mapping[str, float], fidelity: str) -> None:
        """Add the first quality drop of a recipe, after repair or training. After short training
        the surrogate gets the drop that full training is expected to reach."""
        drop = values[DROP] / self._scale
        if fidelity == "short":
            drop = self._outcome(recipe, "short", drop).drop
        self._surrogate.add_drop(self._features.of(recipe), values, drop)
        if fidelity != REPAIRED:
            self._trained[self._space.shared_training(recipe)] = drop

    def add_training(self, recipe: Recipe, training: TrainingOutcome) -> None:
        """Add what a training made of a candidate's quality, and its seconds."""
        self.outcomes.add(training.before, training.drop, training.after, training.reached,
                          self._features.rate(recipe))
        self.effort.add_training(training.after, training.macs_share, training.took_s)
        if training.after == "full":
            self._trained[self._space.shared_training(recipe)] = training.reached

    def expected(self, recipe: Recipe, values: Mapping[str, float]) -> tuple[Expectation, float]:
        """Expected quality drop after full training of a measured candidate, and the seconds of
        that training."""
        known = self._trained.get(self._space.shared_training(recipe))
        if known is not None:
            return Expectation(known, 0.0), NO_COST_S
        if self._campaign.search.repair and DROP in values:
            after = self._outcome(recipe, REPAIRED, values[DROP] / self._scale)
        else:
            after = self._surrogate.expected_drop(self._features.of(recipe), values)
        short_s, full_s = (self.effort.training_s(fidelity, self._share(values))
                           for fidelity in ("short", "full"))
        # An infeasible candidate costs only short training.
        return after, short_s + full_s * self._probability(after)

    def gain(self, recipe: Recipe, values: Mapping[str, float],
             front: Sequence[Point]) -> tuple[float, float]:
        """Hypervolume gain per second of training, and feasibility probability per second. The
        second value orders recipes without a hypervolume gain."""
        after, seconds = self.expected(recipe, values)
        return (self._added(values, after, front) / seconds, self._probability(after) / seconds)

    def optimistic_drop(self, recipe: Recipe, fidelity: str, drop: float) -> float:
        """The least drop that full training of a candidate with ``drop`` after ``fidelity`` may
        reach."""
        return min(drop, self.outcomes.optimistic(
            fidelity, drop, "full", self._features.rate(recipe)))

    def _outcome(self, recipe: Recipe, fidelity: str, drop: float) -> Expectation:
        return self.outcomes.expected(fidelity, drop, "full", self._features.rate(recipe))

    def gain_of_full(self, recipe: Recipe, values: Mapping[str, float],
                     front: Sequence[Point]) -> float:
        """Hypervolume gain per second of full training after short training; ``front`` has the
        candidate with what short training reached, if that is feasible."""
        after = self._outcome(recipe, "short", values[DROP] / self._scale)
        return self._added(values, after, front) / self.effort.training_s(
            "full", self._share(values))

    def predicted_gain(self, recipe: Recipe, front: Sequence[Point]) -> float:
        """Predicted hypervolume gain per second of a recipe that is not built yet: of its repair
        and measurement, or of these and its training, whichever is more."""
        steps = self._features.of(recipe)
        costs = self._surrogate.expected_costs(steps)
        first = self._surrogate.expected_drop(steps, costs)
        search = self._campaign.search
        if not search.repair:
            return self.gain(recipe, costs, front)[0]
        candidate_s = self.effort.candidate_s or UNKNOWN_CANDIDATE_S
        repaired = self._added(costs, first, front) / candidate_s
        if not search.train:
            return repaired
        trained = self._outcome(recipe, REPAIRED, first.drop)
        seconds = candidate_s + sum(self.effort.training_s(fidelity, self._share(costs))
                                    for fidelity in ("short", "full"))
        return max(repaired, self._added(costs, trained, front) / seconds)

    def added(self, values: Mapping[str, float], front: Sequence[Point]) -> float:
        """Hypervolume that a candidate adds as it is."""
        if self._allowed is not None and values[DROP] / self._scale > self._allowed:
            return 0.0
        return hypervolume_gain(values, front, self._baseline, self._campaign.objectives,
                                self.reach)

    @property
    def wins_back(self) -> float:
        """What training wins back, on average, of a candidate of the allowed drop."""
        if self._allowed is None:
            return 0.0
        reached = self.outcomes.expected(REPAIRED, self._allowed, "full").drop
        return max(self._allowed - reached, 0.0)

    def _share(self, values: Mapping[str, float]) -> float:
        return values["macs"] / self._baseline["macs"]

    def _probability(self, after: Expectation) -> float:
        return 1.0 if self._allowed is None else feasibility_probability(
            after, self._allowed, self.reach)

    def _added(self, values: Mapping[str, float], after: Expectation,
               front: Sequence[Point]) -> float:
        """Expected hypervolume with a drop of ``after``: the mean over what is feasible, times the
        probability that anything is."""
        total = 0.0
        for deviations, weight in NODES if after.deviation > 0 else ((0.0, 1.0),):
            drop = after.drop + deviations * after.deviation
            if self._allowed is not None:
                drop = min(drop, self._allowed)
            reached = self._quality.worsened(self._baseline[self._quality.name], drop * self._scale)
            total += weight * hypervolume_gain(
                {**values, self._quality.name: reached}, front, self._baseline,
                self._campaign.objectives, self.reach)
        return total * self._probability(after)
