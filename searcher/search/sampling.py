"""Trials of the ledger -> Optuna study -> next recipe. Only this module imports optuna.

The study is in memory and is rebuilt from the ledger's trials when the process starts. Parameters
are named ``<group>.<strategy>.on`` and ``<group>.<strategy>.<parameter>``.
"""

import copy
import functools
import logging
import math
import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from searcher.ledger.rows import TrialParameters, TrialRow
from searcher.search.neighbours import Neighbours
from searcher.search.recipes.tables import Scans, moves_in
from searcher.search.space import Space
from searcher.spec.campaign import Campaign
from searcher.spec.objectives import DROP
from searcher.spec.recipe import Recipe

STARTUP_TRIALS, STARTUP_TRIALS_OF_REPAIRED = 14, 8
"""Recipes before the first neighbour. Fewer suffice where each has a quality at once."""
NEIGHBOUR_FRACTION, DRAFTS = 0.9, 32
"""Fraction of recipes that are neighbours of good candidates, and the number of neighbours of
which the one with the highest expected gain is proposed."""
STARTUP_STRENGTHS = (0.1, 0.7)
"""Range of strengths of the startup recipes, spaced evenly. With independently sampled numbers
nearly every recipe contains one that destroys the model, and its other numbers teach nothing."""
NEAREST = 4
"""Infeasible candidates that are weakened while none is feasible."""
SOFTER = 0.85
"""Factor of the strength of later startup recipes after one that lost too much quality: what a
network stands is not known before."""
ExpectedGain = Callable[[Recipe], float]
"""Predicted gain of a recipe before it is built; higher is better."""
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True)
class Proposal:
    """A proposed trial. ``parameters`` is stored in the ledger to rebuild the study."""

    number: int
    recipe: Recipe
    parameters: TrialParameters


class Sampling:
    """The Optuna study of one campaign on one device."""

    def __init__(self, campaign: Campaign, space: Space, finished_trials: int = 0) -> None:
        optuna.logging.set_verbosity(logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._campaign, self.space = campaign, space
        self._study = optuna.create_study(
            directions=[o.known_direction for o in campaign.objectives],
            sampler=_sampler(campaign.search.sampler, campaign.seed + finished_trials))
        self._asked: dict[int, optuna.Trial] = {}
        self._running_parents: dict[int, tuple[dict[str, float], list[float]]] = {}
        self._rng = random.Random(campaign.seed + finished_trials)
        self._neighbours = Neighbours(space, self._rng)
        self._softer = 1.0
        self._broken: list[tuple[float, dict[str, float]]] = []
        self.startup_trials = STARTUP_TRIALS_OF_REPAIRED if campaign.search.repair else (
            STARTUP_TRIALS)
        weakest, strongest = STARTUP_STRENGTHS
        self._startup_strengths = [weakest + (strongest - weakest) * (i + 0.5) / STARTUP_TRIALS
                                   for i in range(STARTUP_TRIALS)]
        self._rng.shuffle(self._startup_strengths)

    def use_scans(self, scans: Scans) -> None:
        """Give each layer its own number from now on, where one of ``scans`` knows what it
        loses."""
        self.space = replace(self.space, scans=scans)
        self._neighbours = Neighbours(self.space, self._rng)

    def restore(self, rows: Iterable[TrialRow]) -> dict[int, int]:
        """Add the ledger's trials in order; running ones can be completed by ``tell``. Returns the
        study number by trial id."""
        numbers: dict[int, int] = {}
        first = len(self._study.get_trials(deepcopy=False))
        running: list[int] = []
        for number, row in enumerate(rows, first):
            state = STATES.get(row.state, TrialState.RUNNING)
            self._study.add_trial(self._restored(row, state))
            self._note_broken((row.constraints or {}).get(DROP, 0.0), row.parameters.values)
            numbers[row.id] = number
            if state == TrialState.RUNNING:
                running.append(number)
        trials = self._study.get_trials(deepcopy=False)
        for number in running:
            self._asked[number] = optuna.Trial(self._study, trials[number]._trial_id)
        return numbers

    def _restored(self, row: TrialRow, state: TrialState) -> FrozenTrial:
        saved, now = row.parameters, datetime.now(UTC).replace(tzinfo=None)
        trial = _RestoredTrial(
            number=-1, trial_id=-1, state=state, value=None,
            values=self._values(row.values or {}) if state == TrialState.COMPLETE else None,
            datetime_start=now, datetime_complete=now if state.is_finished() else None,
            params=dict(saved.values),
            distributions={k: _from_json(v) for k, v in saved.distributions.items()},
            user_attrs={}, system_attrs={}, intermediate_values={})
        for name, value in (row.constraints or {}).items():
            trial.set_constraint(name, value)
        return trial

    def ask(self, expected_gain: ExpectedGain = lambda recipe: 0.0,
            draft: Mapping[str, float] | None = None) -> Proposal:
        """The next recipe; ``expected_gain`` ranks the neighbours of good candidates. ``draft``
        are parameters to use instead, those that it lacks are sampled or off."""
        given = self._draft(expected_gain, draft)
        self._study.enqueue_trial(given)
        trial = self._study.ask()
        recipe = self.space.sample(trial, moves_in(given))
        self._asked[trial.number] = trial
        return Proposal(trial.number, recipe, TrialParameters(
            dict(trial.params),
            {k: distribution_to_json(d) for k, d in trial.distributions.items()}))

    def _draft(self, expected_gain: ExpectedGain, draft: Mapping[str, float] | None
               ) -> dict[str, float]:
        """Parameters of the next recipe; the sampler adds those that are missing."""
        asked = len(self._study.get_trials(deepcopy=False))
        if draft is not None:
            return self._neighbours.completed(draft)[0]
        if asked < self.startup_trials:
            return self._neighbours.startup(self._startup_strengths[asked] * self._softer)
        if self._rng.random() >= NEIGHBOUR_FRACTION:
            return dict(self.space.narrow_off)
        parents = [*self._running_parents.values(), *(
            (t.params, t.values) for t in self._study.best_trials
            if all(v <= 0 for v in t.constraints.values()))]
        steps = [self._neighbours.step(self._pick(parents), self._pick(parents))
                 for _ in range(DRAFTS)] if parents else self._towards_feasible()
        drafts = [self._neighbours.completed(draft) for draft in steps]
        gains = [expected_gain(recipe) for _, recipe in drafts]
        return drafts[gains.index(max(gains))][0]

    def _towards_feasible(self) -> list[dict[str, float]]:
        """Drafts while no candidate is feasible: those that broke the constraint of the quality
        drop least, weaker, and startup recipes."""
        nearest = [self._neighbours.weakened(self._rng.choice(self._broken)[1])
                   for _ in range(DRAFTS // 2)] if self._broken else []
        return [*nearest, *(
            self._neighbours.startup(self._rng.uniform(*STARTUP_STRENGTHS) * self._softer)
            for _ in range(DRAFTS - len(nearest)))]

    def _note_broken(self, excess: float, params: Mapping[str, float]) -> None:
        if excess > 0:
            self._broken = sorted([*self._broken, (excess, dict(params))],
                                  key=lambda entry: entry[0])[:NEAREST]

    def _pick(self, parents: Sequence[tuple[dict[str, float], list[float]]]
              ) -> dict[str, float]:
        """A parent: the best by randomly weighted objectives, each scaled to its range."""
        params, values = zip(*parents, strict=True)
        losses = [[-v if o.direction == "maximize" else v
                   for v, o in zip(row, self._campaign.objectives, strict=True)]
                  for row in values]
        lows = [min(column) for column in zip(*losses, strict=True)]
        spans = [max(column) - low or 1.0
                 for column, low in zip(zip(*losses, strict=True), lows, strict=True)]
        weights = [self._rng.expovariate(1.0) for _ in lows]
        scores = [sum(w * (v - low) / span for w, v, low, span
                      in zip(weights, row, lows, spans, strict=True)) for row in losses]
        best: dict[str, float] = params[scores.index(min(scores))]
        return best

    def add_parent(self, number: int, values: Mapping[str, float]) -> None:
        """Use a running trial with good values as a parent before its ``tell``."""
        self._running_parents[number] = dict(self._asked[number].params), self._values(values)

    def tell(self, number: int, state: str, values: Mapping[str, float] | None,
             constraints: Mapping[str, float]) -> None:
        """Finish an asked trial as ``complete``, ``pruned`` or ``failed``; violated constraints
        are positive."""
        trial = self._asked.pop(number)
        self._running_parents.pop(number, None)
        if number < STARTUP_TRIALS and constraints.get(DROP, 0.0) > 0:
            self._softer *= SOFTER
        self._note_broken(constraints.get(DROP, 0.0), trial.params)
        for name, value in constraints.items():
            trial.set_constraint(name, value)
        if state == "complete" and values is not None:
            self._study.tell(trial, self._values(values))
        else:
            self._study.tell(trial, state=STATES[state])

    def _values(self, values: Mapping[str, float]) -> list[float]:
        """Costs on a logarithmic scale, so that the sampler treats equal factors alike."""
        return [values[o.name] if o.role == "quality" else math.log(values[o.name])
                for o in self._campaign.objectives]


class _RestoredTrial(FrozenTrial):
    """A trial restored from the ledger. Optuna's storage deep-copies trials with their
    distributions; these are immutable, so copies share them here. Rebuilding a study of 10,000
    trials takes 0.2 s of CPU, with deep copies 0.9 s (``benchmarks.study``)."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenTrial":
        duplicate = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | list):
                setattr(duplicate, name, copy.copy(value))
        return duplicate


@functools.cache
def _from_json(text: str) -> BaseDistribution:
    """Cached: 10,000 trials have a few dozen distributions. Rebuilding their study takes 0.2 s of
    CPU, without the cache 1.1 s (``benchmarks.study``)."""
    return json_to_distribution(text)


def _sampler(name: str, seed: int) -> BaseSampler:
    if name == "random":
        return RandomSampler(seed=seed)
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=20)
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True,
                      constant_liar=True)
