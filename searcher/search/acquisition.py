"""The acquisition function: expected hypervolume gain of training a recipe, per unit of training
time."""

from collections.abc import Mapping, Sequence

from searcher.pareto.front import Point
from searcher.pareto.hypervolume import hypervolume_gain
from searcher.search.recipe_features import Features
from searcher.search.space import Space
from searcher.search.surrogate import Expectation, Surrogate, feasibility_probability
from searcher.spec.campaign import Campaign
from searcher.spec.objectives import DROP, quality_of, scale_of
from searcher.spec.recipe import Recipe

SHORT_COST = 0.25
"""Duration of short training, as a fraction of full training."""
FULL_TRAINING_GAIN = 0.004
"""Mean quality gain of full training over short training, relative to the quality's scale."""
FIXED_COST, SHARED_COST = 0.2, 0.05
"""Training cost, relative to that of the baseline: the part that does not depend on MACs, and the
total cost when another recipe with the same training steps was already trained."""


class Acquisition:
    """Acquisition function of one campaign, fitted to its candidates. ``baseline`` holds the
    baseline's values. Drops are relative to the scale of the quality."""

    def __init__(self, campaign: Campaign, space: Space, baseline: Mapping[str, float]) -> None:
        self._campaign, self._space, self._baseline = campaign, space, baseline
        self._features = Features(space)
        self._surrogate = Surrogate(baseline, len(self._features.names))
        self._drops: dict[str, float] = {}
        self._quality, self._scale = quality_of(campaign.objectives), scale_of(campaign.objectives)

    def add_costs(self, recipe: Recipe, values: Mapping[str, float]) -> None:
        """Add the measured costs of a recipe."""
        self._surrogate.add_costs(self._features.of(recipe), values)

    def add_drop(self, recipe: Recipe, values: Mapping[str, float], fidelity: str) -> None:
        """Add the quality drop of a recipe after training with ``fidelity``."""
        gained = FULL_TRAINING_GAIN if fidelity == "short" else 0.0
        drop = values[DROP] / self._scale - gained
        self._drops[self._space.shared_training(recipe)] = drop
        self._surrogate.add_drop(self._features.of(recipe), values, drop)

    def expected(self, recipe: Recipe,
                 values: Mapping[str, float]) -> tuple[Expectation, float]:
        """Expected quality drop after training, and training cost relative to the baseline's."""
        known_drop = self._drops.get(self._space.shared_training(recipe))
        if known_drop is not None:
            return Expectation(known_drop, 0.0), SHARED_COST
        share = values["macs"] / self._baseline["macs"]
        return self._surrogate.expected_drop(self._features.of(recipe), values), FIXED_COST + share

    def gain(self, recipe: Recipe, values: Mapping[str, float],
             front: Sequence[Point]) -> tuple[float, float]:
        """Hypervolume gain per training cost, and feasibility probability per training cost. The
        second value orders recipes without a hypervolume gain."""
        expected, cost = self.expected(recipe, values)
        bound = self._campaign.constraints.get(DROP)
        allowed = None if bound is None else bound / self._scale
        probability = 1.0 if allowed is None else feasibility_probability(expected, allowed)
        # An infeasible recipe costs only short training and gains nothing. The gain is therefore
        # computed for the feasible case and weighted with its probability.
        drop = expected.drop if allowed is None else min(expected.drop, allowed)
        reached = self._quality.worsened(self._baseline[self._quality.name], drop * self._scale)
        added = hypervolume_gain({**values, self._quality.name: reached}, front, self._baseline,
                                 self._campaign.objectives)
        probability_per_cost = probability / (cost * (SHORT_COST + (1 - SHORT_COST) * probability))
        return added * probability_per_cost, probability_per_cost

    def predicted_gain(self, recipe: Recipe, front: Sequence[Point]) -> float:
        """Predicted hypervolume gain per training cost of a recipe whose costs are not measured
        yet."""
        costs = self._surrogate.expected_costs(self._features.of(recipe))
        return self.gain(recipe, costs, front)[0]
