"""Ledger -> Optuna study -> next recipe. The only importer of optuna.

The study lives in memory and is rebuilt from the ledger's trials at start, so it is a projection
and never a second truth. Parameters are named ``<group>.<strategy>.on`` and
``<group>.<strategy>.<parameter>``.
"""

import copy
import functools
import logging
import math
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from searcher.ledger.rows import TrialParameters, TrialRow
from searcher.search.neighbours import Neighbours
from searcher.search.space import Space
from searcher.spec.campaign import Campaign
from searcher.spec.recipe import Recipe

STARTUP_TRIALS = 14
NEIGHBOURS, DRAFTS = 0.9, 32
"""Share of the asks that start from points that are good, instead of from nothing; of how many
steps away from them the most promising is taken."""
AMBITION = (0.1, 0.7)
"""Startup recipes stand on a ladder from mild to strong: drawn independently, nearly every recipe
has one number that destroys the model, and the rest of it teaches nothing."""
Prospect = Callable[[Recipe], float]
"""What a recipe promises, judged without building it; the more, the better."""
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True)
class Proposal:
    """One asked trial: ``parameters`` is what the ledger keeps to rebuild the study."""

    number: int
    recipe: Recipe
    parameters: TrialParameters


class Sampling:
    """One study of one (campaign, device)."""

    def __init__(self, campaign: Campaign, space: Space, told: int = 0) -> None:
        optuna.logging.set_verbosity(logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._campaign, self.space = campaign, space
        self._study = optuna.create_study(
            directions=[o.direction for o in campaign.objectives],
            sampler=_sampler(campaign.search.sampler, campaign.seed + told))
        self._asked: dict[int, optuna.Trial] = {}
        self._favoured: dict[int, tuple[dict[str, float], list[float]]] = {}
        self._draw = random.Random(campaign.seed + told)
        self._neighbours = Neighbours(space, self._draw)
        self._rungs = [AMBITION[0] + (AMBITION[1] - AMBITION[0]) * (i + 0.5) / STARTUP_TRIALS
                       for i in range(STARTUP_TRIALS)]
        self._draw.shuffle(self._rungs)

    def restore(self, rows: Iterable[TrialRow]) -> dict[int, int]:
        """Add the ledger's trials in order; those still running may be told later. Study number
        by id."""
        numbers: dict[int, int] = {}
        first = len(self._study.get_trials(deepcopy=False))
        running: list[int] = []
        for number, row in enumerate(rows, first):
            state = STATES.get(row.state, TrialState.RUNNING)
            self._study.add_trial(self._remembered(row, state))
            numbers[row.id] = number
            if state == TrialState.RUNNING:
                running.append(number)
        trials = self._study.get_trials(deepcopy=False)
        for number in running:
            self._asked[number] = optuna.Trial(self._study, trials[number]._trial_id)
        return numbers

    def _remembered(self, row: TrialRow, state: TrialState) -> FrozenTrial:
        saved, began = row.parameters, datetime.now(UTC).replace(tzinfo=None)
        trial = _Remembered(
            number=-1, trial_id=-1, state=state, value=None,
            values=self._values(row.values or {}) if state == TrialState.COMPLETE else None,
            datetime_start=began, datetime_complete=began if state.is_finished() else None,
            params=dict(saved.values),
            distributions={k: _from_json(v) for k, v in saved.distributions.items()},
            user_attrs={}, system_attrs={}, intermediate_values={})
        for name, value in (row.constraints or {}).items():
            trial.set_constraint(name, value)
        return trial

    def ask(self, prospect: Prospect = lambda recipe: 0.0) -> Proposal:
        """The next recipe to look at; with no ``prospect`` all promise alike."""
        asked = len(self._study.get_trials(deepcopy=False))
        if asked < STARTUP_TRIALS:
            self._study.enqueue_trial(self._neighbours.on_rung(self._rungs[asked]))
        elif self._draw.random() < NEIGHBOURS:
            self._enqueue_neighbour(prospect)
        trial = self._study.ask()
        recipe = self.space.sample(trial)
        self._asked[trial.number] = trial
        return Proposal(trial.number, recipe, TrialParameters(
            dict(trial.params),
            {k: distribution_to_json(d) for k, d in trial.distributions.items()}))

    def _enqueue_neighbour(self, prospect: Prospect) -> None:
        """Of some steps away from good points the most promising."""
        parents = [*self._favoured.values(), *(
            (t.params, t.values) for t in self._study.best_trials
            if all(v <= 0 for v in t.constraints.values()))]
        if not parents:
            return
        drafts = [self._neighbours.completed(
            self._neighbours.step(self._pick(parents), self._pick(parents))) for _ in range(DRAFTS)]
        worth = [prospect(recipe) for _, recipe in drafts]
        self._study.enqueue_trial(drafts[worth.index(max(worth))][0])

    def _pick(self, parents: Sequence[tuple[dict[str, float], list[float]]]
              ) -> dict[str, float]:
        """The best by weights drawn at random over the objectives, each scaled to its range."""
        params, values = zip(*parents, strict=True)
        losses = [[-v if o.direction == "maximize" else v
                   for v, o in zip(row, self._campaign.objectives, strict=True)]
                  for row in values]
        lows = [min(column) for column in zip(*losses, strict=True)]
        spans = [max(column) - low or 1.0
                 for column, low in zip(zip(*losses, strict=True), lows, strict=True)]
        weights = [self._draw.expovariate(1.0) for _ in lows]
        scores = [sum(w * (v - low) / span for w, v, low, span
                      in zip(weights, row, lows, spans, strict=True)) for row in losses]
        best: dict[str, float] = params[scores.index(min(scores))]
        return best

    def favour(self, number: int, values: Mapping[str, float]) -> None:
        """A trial in progress looks good: ``ask`` may step from it before it is told."""
        self._favoured[number] = dict(self._asked[number].params), self._values(values)

    def tell(self, number: int, state: str, values: Mapping[str, float] | None,
             constraints: Mapping[str, float]) -> None:
        """End an asked trial as ``complete``, ``pruned`` or ``failed``; violated constraints are
        positive."""
        trial = self._asked.pop(number)
        self._favoured.pop(number, None)
        for name, value in constraints.items():
            trial.set_constraint(name, value)
        if state == "complete" and values is not None:
            self._study.tell(trial, self._values(values))
        else:
            self._study.tell(trial, state=STATES[state])

    def _values(self, values: Mapping[str, float]) -> list[float]:
        """Costs on a log scale: to the sampler a factor is a factor, wherever it starts."""
        return [values[o.name] if o.name.startswith("accuracy") else math.log(values[o.name])
                for o in self._campaign.objectives]


class _Remembered(FrozenTrial):
    """A trial of the ledger. The study's storage copies what it is given to the last
    distribution; those never change, so here copies share them. Rebuilding a study of 10,000 trials
    takes 0.2 s of CPU, with deep copies 0.9 s (``benchmarks.study``)."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenTrial":
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | list):
                setattr(twin, name, copy.copy(value))
        return twin


@functools.cache
def _from_json(text: str) -> BaseDistribution:
    """Ten thousand trials have a few dozen distributions: rebuilding their study takes 0.2 s of
    CPU, 1.1 s with each text read again (``benchmarks.study``)."""
    return json_to_distribution(text)


def _sampler(name: str, seed: int) -> BaseSampler:
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=20)
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True,
                      constant_liar=True)
