"""The acquisition function: hypervolume that training a recipe may add, per second of training."""

from collections.abc import Mapping, Sequence

from searcher.pareto.front import Point
from searcher.pareto.hypervolume import hypervolume_gain
from searcher.search.recipe_features import Features
from searcher.search.space import Space
from searcher.search.surrogate import Expectation, Surrogate, feasibility_probability
from searcher.spec.campaign import Campaign
from searcher.spec.recipe import Recipe

SHORT_SHARE = 0.25
"""Of full training, how much time short training takes."""
WIN_BACK = 0.004
"""Accuracy (absolute) that full training wins back after short training, on average."""
FIXED_COST, SHARED_COST = 0.2, 0.05
"""Training time that does not depend on MACs, as a share of the baseline's; what remains of all of
it when the training was done for another recipe."""


class Acquisition:
    """Learns from every candidate of one campaign; ``baseline`` holds the baseline's values."""

    def __init__(self, campaign: Campaign, space: Space, baseline: Mapping[str, float]) -> None:
        self._campaign, self._space, self._baseline = campaign, space, baseline
        self._features = Features(space)
        self._surrogate = Surrogate(baseline, len(self._features.names))
        self._trained_drops: dict[str, float] = {}

    def measured(self, recipe: Recipe, values: Mapping[str, float]) -> None:
        """It has these costs."""
        self._surrogate.measured(self._features.of(recipe), values)

    def trained(self, recipe: Recipe, values: Mapping[str, float], fidelity: str) -> None:
        """It lost ``values["accuracy_drop"]``."""
        drop = values["accuracy_drop"] - (WIN_BACK if fidelity == "short" else 0.0)
        self._trained_drops[self._space.shared_training(recipe)] = drop
        self._surrogate.trained(self._features.of(recipe), values, drop)

    def expected(self, recipe: Recipe,
                 values: Mapping[str, float]) -> tuple[Expectation, float]:
        """Accuracy that training may lose, and its time relative to the baseline's."""
        known = self._trained_drops.get(self._space.shared_training(recipe))
        if known is not None:
            return Expectation(known, 0.0), SHARED_COST
        share = values["macs"] / self._baseline["macs"]
        return self._surrogate.loss(self._features.of(recipe), values), FIXED_COST + share

    def gain(self, recipe: Recipe, values: Mapping[str, float],
             front: Sequence[Point]) -> tuple[float, float]:
        """Expected hypervolume per training time, then the chance that the accuracy is kept per
        training time, which orders those that add nothing."""
        expected, cost = self.expected(recipe, values)
        allowed = self._campaign.constraints.get("accuracy_drop")
        chance = 1.0 if allowed is None else feasibility_probability(expected, allowed)
        # Where it does not keep what is allowed, short training is all that it costs, and it adds
        # nothing; so what it adds is judged for the case that it does.
        drop = expected.drop if allowed is None else min(expected.drop, allowed)
        added = hypervolume_gain({**values, "accuracy": self._baseline["accuracy"] - drop}, front,
                        self._baseline, self._campaign.objectives)
        worth = chance / (cost * (SHORT_SHARE + (1 - SHORT_SHARE) * chance))
        return added * worth, worth

    def unbuilt(self, recipe: Recipe, front: Sequence[Point]) -> float:
        """The gain of a recipe whose costs were not measured yet."""
        costs = self._surrogate.costs(self._features.of(recipe))
        return self.gain(recipe, costs, front)[0]
