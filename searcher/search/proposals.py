"""New candidates: recipes that were not tried before, as trials of the ledger."""

import functools
from collections import deque
from collections.abc import Callable, Iterable

from searcher.client.http import CoordinatorClient
from searcher.client.records import Trial
from searcher.search.candidate import Candidate
from searcher.search.recipes.tables import Parameters
from searcher.search.sampling import Sampling
from searcher.spec.campaign import Campaign
from searcher.spec.recipe import Recipe

AHEAD = 8
"""Candidates that are compressed or measured at the same time, so that measurements share quiet
windows."""
LONGEST_QUEUE_S = 5.0
"""Seconds of builds that wait for a builder, where builds are slow."""
MOST_DUPLICATES = 100
"""Proposals in a row that were tried before, after which the space counts as exhausted."""


class Proposals:
    """Asks ``sampling`` for recipes. ``asked`` is the number of candidates so far; ``first`` are
    parameters of recipes to ask for before any other."""

    def __init__(self, client: CoordinatorClient, campaign: Campaign, device: str,
                 sampling: Sampling) -> None:
        self._client, self._campaign, self._device = client, campaign, device
        self._sampling, self._seen = sampling, set[str]()
        self.first = deque[Parameters]()
        self.asked = 0

    def restore(self, rows: Iterable[Trial]) -> None:
        """The trials of an earlier search process of this campaign."""
        known = [self._key(row.built_from) for row in rows]
        self.asked, self._seen = len(known), set(known)

    def next(self, expected_gain: Callable[[Recipe], float], trains: bool) -> Candidate | None:
        """A new candidate, whose recipe has no training unless the search ``trains``; None when
        the space seems exhausted. ``expected_gain`` ranks recipes."""
        for _ in range(MOST_DUPLICATES):
            draft = {"draft": self.first.popleft()} if self.first else {}
            proposal = self._sampling.ask(
                functools.partial(self._gain_of_new, expected_gain), **draft)
            compressed = self._sampling.space.compression(proposal.recipe)
            key = self._key(proposal.recipe)
            if key in self._seen or not compressed.steps:
                self._sampling.tell(proposal.number, "failed", None, {})
                continue
            self._seen.add(key)
            self.asked += 1
            recipe = proposal.recipe if trains else compressed
            trial = self._client.create_trial(
                self._campaign.name, self._device, recipe, proposal.parameters)
            return Candidate(trial.id, proposal.number, recipe)
        return None

    def _gain_of_new(self, expected_gain: Callable[[Recipe], float], recipe: Recipe) -> float:
        """-1 for a recipe that was already tried."""
        return -1.0 if self._key(recipe) in self._seen else expected_gain(recipe)

    def _key(self, recipe: Recipe) -> str:
        """Recipes of equal keys are one candidate: with repair those that differ in the training
        alone, because they have one repaired file."""
        repairs = self._campaign.search.repair
        return (self._sampling.space.compression(recipe) if repairs else recipe).hash
