import copy
import json
import random
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from optuna.trial import TrialState

from searcher.client.records import Trial
from searcher.documents import parse, plain
from searcher.errors import UserError
from searcher.ledger.tables.search_state import BEFORE_METRICS
from searcher.search.recipes.offers import GROUPS, PARTS
from searcher.search.sampling import DRAFTS, STARTUP_TRIALS, Proposal, Sampling
from searcher.search.space import Range, Space
from searcher.spec.campaign import Campaign, from_document
from searcher.spec.objectives import resolved
from searcher.spec.recipe import Recipe
from strategies.base import Layer
from strategies.catalog import all_strategies
from strategies.layers import layers_of
from tests.tasks_for_tests import network

LAYERS = layers_of(network())
FLOAT = frozenset({"float32"})
BOTH = frozenset({"float32", "int8"})
VALUES = {"accuracy": 0.9, "latency_s": 1e-3, "file_bytes": 900.0}


@pytest.fixture(autouse=True)
def _warnings_as_before() -> Iterator[None]:
    with warnings.catch_warnings():
        yield


def campaign(sampler: str = "random", **search: Any) -> Campaign:
    """With the objectives of a task whose metric is accuracy."""
    asked = from_document({"name": "c", "task": "t", "search": {"sampler": sampler, **search}})
    return replace(asked, objectives=resolved(asked.objectives, BEFORE_METRICS))


def sampling(finished_trials: int = 0, **changes: Any) -> Sampling:
    spec = campaign(**changes)
    return Sampling(spec, Space.of(spec, LAYERS, BOTH), finished_trials)


def row(number: int, proposal: Proposal, state: str, **changes: Any) -> Trial:
    """The trial after a round trip through the JSON of the ledger."""
    parameters = json.loads(json.dumps(plain(proposal.parameters)))
    return parse(Trial, {
        "id": number, "campaign": "c", "device": "d", "number": number, "options": {},
        "recipe": proposal.recipe.hash, "parameters": parameters, "state": state,
        "values": VALUES if state == "complete" else None, "intervals": None, "constraints": {},
        "reason": None, "message": None, "sha256": None, "evaluations": None, "measurement": None,
        "started_s": 0.0, "finished_s": None, **changes})


# -- the space -----------------------------------------------------------------------------------


def test_int8_needs_a_device_that_computes_with_it() -> None:
    def names(formats: frozenset[str]) -> set[str]:
        return {s.name for _, s in Space.of(campaign(), LAYERS, formats).choices}

    assert names(BOTH) - names(FLOAT) == {"int8"}


def test_groups_that_the_model_lacks_are_no_choice() -> None:
    dense = [layer for layer in LAYERS if layer.kind == "fully_connected"]
    groups = {g for g, _ in Space.of(campaign(), tuple(dense), FLOAT).choices}
    assert "convolutions" not in groups and "fully_connected" in groups


def test_finetuning_is_always_available() -> None:
    space = Space.of(campaign(strategies=["svd"]), LAYERS, BOTH)
    assert [s.name for _, s in space.choices] == ["svd"]
    assert [s.name for s in space.trainings] == ["finetune"]


@pytest.mark.parametrize(("search", "said"), [
    ({"strategies": ["svd", "tuker"]}, "Unknown strategy 'tuker'. Did you mean 'tucker'?"),
    ({"limits": {"svd.rank": [0.1, 0.2]}}, "'svd.rank' in [search.limits]. Did you mean"),
])
def test_unknown_names(search: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        Space.of(campaign(**search), LAYERS, BOTH)
    assert said in str(caught.value)


def test_limits_outside_a_parameters_range_are_refused() -> None:
    with pytest.raises(UserError, match="clustering.bits"):
        study = sampling(limits={"clustering.bits": [20, 30]}, strategies=["clustering"])
        for _ in range(STARTUP_TRIALS):
            study.ask()


def test_names_and_ranges_of_the_search_space() -> None:
    proposed = [sampling(finished_trials=seed).ask() for seed in range(30)]
    known = {s.name for s in all_strategies()}
    for proposal in proposed:
        for name, text in proposal.parameters.distributions.items():
            group, strategy, parameter = name.split(".")
            assert group in GROUPS and strategy in known
            kind = json.loads(text)
            if kind["name"] == "CategoricalDistribution":
                assert parameter == "on" and kind["attributes"]["choices"] == [False, True]
            else:
                assert parameter != "on"


@pytest.mark.parametrize("search", [
    {}, {"strategies": ["clustering", "svd"]}, {"limits": {"clustering.bits": [3, 4]}}])
def test_choices_are_independent_of_the_searched_strategies(search: dict[str, Any]) -> None:
    layers = LAYERS if search else LAYERS[:2]
    spec = campaign(**search)
    proposal = Sampling(spec, Space.of(spec, layers, FLOAT)).ask()
    choices = [json.loads(text)["attributes"]["choices"]
               for name, text in proposal.parameters.distributions.items()
               if name.endswith(".on")]
    assert choices and all(c == [False, True] for c in choices)


def test_limits_narrow_a_range_and_never_widen_it() -> None:
    limits = {"clustering.bits": [3, 4], "svd.rank_ratio": [0.0, 0.05],
              "finetune.learning_rate": [0.007, 0.008]}
    study = sampling(limits=limits, strategies=["clustering", "svd"])
    found: dict[str, list[float]] = {}
    for _ in range(STARTUP_TRIALS + 15):
        for step in study.ask().recipe.steps:
            for name, value in step.parameters:
                found.setdefault(f"{step.strategy}.{name}", []).append(float(value))
    assert set(found["clustering.bits"]) == {3, 4}
    assert 0.02 <= min(found["svd.rank_ratio"]) and max(found["svd.rank_ratio"]) <= 0.05
    assert all(0.007 <= v <= 0.008 for v in found["finetune.learning_rate"])


def test_limits_of_a_whole_number_stay_inside() -> None:
    study = sampling(limits={"clustering.bits": [2.5, 4.5]}, strategies=["clustering"])
    bits = {value for _ in range(20) for step in study.ask().recipe.steps
            for name, value in step.parameters if name == "bits"}
    assert bits == {3, 4}


def test_recipes_are_in_stage_order_and_end_training_once() -> None:
    from strategies.pipeline import check

    study = sampling()
    for _ in range(40):
        recipe = study.ask().recipe
        check(recipe.as_list())
        names = [step.strategy for step in recipe.steps]
        assert sum(n in ("finetune", "knowledge_distillation") for n in names) == 1


def test_startup_recipes_switch_a_few_on() -> None:
    study = sampling()
    stages = {s.name: s.stage for s in all_strategies()}
    switched = []
    for _ in range(STARTUP_TRIALS):
        steps = [(s.layers, stages[s.strategy]) for s in study.ask().recipe.steps]
        switched.append(len(steps))
        assert len(set(steps)) == len(steps), "of each group and stage one at most"
    assert min(switched) < max(switched)


# -- asking and telling --------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_ask_and_tell_with_each_sampler(sampler: str) -> None:
    study = sampling(sampler=sampler)
    for index in range(STARTUP_TRIALS + 4):
        proposal = study.ask()
        assert proposal.number == index
        state = ("complete", "pruned", "failed")[index % 3]
        study.tell(proposal.number, state, VALUES, {"latency_s": index - 5.0})
    states = [t.state for t in study._study.trials]
    assert states[:3] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert not study._asked


def test_the_same_seed_proposes_the_same() -> None:
    first, second = sampling(), sampling()
    assert [first.ask().recipe for _ in range(5)] == [second.ask().recipe for _ in range(5)]
    assert first.ask().recipe != sampling(finished_trials=5).ask().recipe


def test_tell_uses_logarithms_of_costs() -> None:
    study = sampling()
    study.tell(study.ask().number, "complete", VALUES, {})
    values = study._study.trials[0].values
    assert values == pytest.approx([0.9, -6.907755, 6.802395])


def test_constraints_reach_optuna() -> None:
    study = sampling(sampler="tpe")
    for excess in (0.5, -0.5):
        study.tell(study.ask().number, "complete", VALUES, {"latency_s": excess})
    study.tell(study.ask().number, "pruned", None, {"reach": 0.3})
    assert [t.constraints for t in study._study.trials] == [
        {"latency_s": 0.5}, {"latency_s": -0.5}, {"reach": 0.3}]
    assert [t.number for t in study._study.best_trials] == [1], "the infeasible one is not best"


def test_a_second_tell_is_a_defect() -> None:
    study = sampling()
    number = study.ask().number
    study.tell(number, "failed", None, {})
    with pytest.raises(KeyError):
        study.tell(number, "failed", None, {})


# -- restoring -----------------------------------------------------------------------------------


def restored() -> tuple[Sampling, dict[int, int], list[Any]]:
    before = sampling()
    proposals = [before.ask() for _ in range(5)]
    rows = [row(101, proposals[0], "complete", constraints={"latency_s": 0.2}),
            row(102, proposals[1], "pruned", constraints={"reach": 0.4}),
            row(103, proposals[2], "failed", constraints=None),
            row(104, proposals[3], "running"), row(105, proposals[4], "running")]
    after = sampling(finished_trials=5)
    return after, after.restore(rows), proposals


def test_finished_trials_of_each_state_are_restored() -> None:
    study, numbers, proposals = restored()
    trials = study._study.trials
    assert numbers == {101: 0, 102: 1, 103: 2, 104: 3, 105: 4}
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "RUNNING"]
    assert [t.params for t in trials] == [p.parameters.values for p in proposals]
    assert [t.constraints for t in trials[:2]] == [{"latency_s": 0.2}, {"reach": 0.4}]
    assert trials[0].values == pytest.approx([0.9, -6.907755, 6.802395])


def test_running_trials_accept_a_later_tell() -> None:
    study, numbers, _ = restored()
    study.tell(numbers[104], "complete", VALUES, {"latency_s": -0.1})
    study.tell(numbers[105], "failed", None, {})
    trials = study._study.trials
    assert (trials[3].state, trials[4].state) == (TrialState.COMPLETE, TrialState.FAIL)
    assert trials[3].constraints == {"latency_s": -0.1}


def test_after_restoring_numbers_and_recipes_go_on() -> None:
    study, numbers, proposals = restored()
    asked = [study.ask() for _ in range(4)]
    assert [p.number for p in asked] == [5, 6, 7, 8]
    assert not {p.recipe.hash for p in asked} & {p.recipe.hash for p in proposals}


def test_restored_trials_share_distributions_and_nothing_else() -> None:
    """Optuna's storage copies each of ten thousand restored trials."""
    study, numbers, _ = restored()
    finished, running = (study._study.get_trials(deepcopy=False)[n] for n in (0, numbers[104]))
    common = next(iter(finished.distributions.keys() & running.distributions.keys()))
    assert finished.distributions[common] is running.distributions[common]
    duplicate = copy.deepcopy(finished)
    assert duplicate == finished
    assert duplicate.distributions[common] is finished.distributions[common]
    duplicate.params[common] = None
    duplicate.values[0] = -1.0
    assert duplicate.params != finished.params and duplicate.values != finished.values


def test_a_restored_study_samples_with_tpe() -> None:
    before = sampling(sampler="tpe")
    rows = []
    for index in range(STARTUP_TRIALS + 2):
        rows.append(row(index, before.ask(), "complete", values={
            **VALUES, "accuracy": 0.9 + index / 1000}, constraints={"latency_s": index - 9.0}))
    after = sampling(finished_trials=len(rows), sampler="tpe")
    after.restore(rows)
    proposal = after.ask()
    assert proposal.number == len(rows) and isinstance(proposal.recipe, Recipe)


def test_layers_with_other_groups_do_not_break_a_stored_study() -> None:
    before = sampling()
    rows = [row(1, before.ask(), "complete"), row(2, before.ask(), "running")]
    spec = campaign(strategies=["svd"])
    only = (Layer("fc", "fully_connected", (4, 4), frozenset({"model", "fully_connected"})),)
    after = Sampling(spec, Space.of(spec, only, FLOAT), 2)
    after.restore(rows)
    assert after.ask().number == 2


def test_some_recipes_are_neighbours_of_a_running_parent() -> None:
    study = sampling(strategies=["clustering", "svd", "magnitude_pruning"])
    asked = [study.ask() for _ in range(STARTUP_TRIALS)]
    parent = asked[3]
    values = {"accuracy": 0.9, "latency_s": 1.0, "file_bytes": 1.0}
    study.add_parent(parent.number, values)
    kept = [sum(study.ask().parameters.values.get(name) == value
                for name, value in parent.parameters.values.items())
            / len(parent.parameters.values) for _ in range(30)]
    assert sum(share >= 0.5 for share in kept) >= 10


def test_the_neighbour_with_the_highest_gain_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searcher.search.sampling.NEIGHBOUR_FRACTION", 1.0)
    study = sampling(strategies=["clustering", "svd", "magnitude_pruning"])
    parent = [study.ask() for _ in range(STARTUP_TRIALS)][-1]
    study.tell(parent.number, "complete", VALUES, {})
    gains: dict[str, float] = {}

    def by_hash(recipe: Recipe) -> float:
        return gains.setdefault(recipe.hash, int(recipe.hash, 16) / 16**32)

    asked = study.ask(by_hash)
    assert 1 < len(gains) <= DRAFTS
    assert gains[asked.recipe.hash] == max(gains.values()), "the best neighbour is proposed"


def test_a_parent_is_the_best_by_some_weights() -> None:
    study = sampling(strategies=["clustering", "svd"])
    rows = [[0.9, 1.0, 1.0], [0.8, 0.5, 3.0], [0.7, 2.0, 4.0]]
    parents = [({"n": number}, values) for number, values in enumerate(rows)]
    picked = {study._pick(parents)["n"] for _ in range(50)}
    assert picked == {0, 1}


def test_a_strategy_of_the_whole_model_is_not_suggested_for_parts() -> None:
    study = sampling(strategies=["clustering", "magnitude_pruning"])
    for _ in range(40):
        steps = study.ask().recipe.steps
        whole = {s.strategy for s in steps if s.layers == "model"}
        assert not {s.strategy for s in steps if s.layers in PARTS} & whole


# -- startup -----------------------------------------------------------------------------


def test_half_of_the_startup_recipes_change_the_structure_alone() -> None:
    space = Space.of(campaign(), LAYERS, BOTH)
    stages = {f"{group}.{s.name}.on": s.stage for group, s in space.choices}
    draw, alone = random.Random(0), 0
    for _ in range(400):
        on = {stages[name] for name, chosen in space.startup_switches(draw).items() if chosen}
        alone += on == {"structure"}
    assert 150 < alone < 300


@pytest.mark.parametrize("span", [
    Range(0.05, 0.8, True, False), Range(2, 8, False, True), Range(0.3, 0.3, True, False)])
def test_a_range_gives_its_ends_and_stays_inside(span: Range) -> None:
    assert span.value(0.0) == pytest.approx(span.high) and span.value(1.0) == span.low
    assert all(span.low <= span.value(s) <= span.high for s in (-1.0, 0.3, 0.99, 2.0))
    if span.high > span.low:
        assert span.strength(span.low) == pytest.approx(1) and span.strength(span.high) == 0


def infeasible(study: Sampling) -> list[tuple[Proposal, float]]:
    """All recipes of the startup, none of which keeps the constraint."""
    found = []
    for number in range(study.startup_trials):
        proposal, excess = study.ask(), 0.5 - 0.01 * number
        study.tell(proposal.number, "pruned", None, {"quality_drop": excess})
        found.append((proposal, excess))
    return found


@pytest.mark.parametrize("restored", [False, True])
def test_without_a_feasible_candidate_the_nearest_are_weakened(restored: bool) -> None:
    study = sampling(strategies=["clustering", "magnitude_pruning", "int8"])
    asked = infeasible(study)
    if restored:
        study = sampling(strategies=["clustering", "magnitude_pruning", "int8"])
        study.restore([row(number, proposal, "pruned", constraints={"quality_drop": excess})
                       for number, (proposal, excess) in enumerate(asked)])
    nearest = [proposal.parameters.values for proposal, _ in asked[-4:]]
    spans = study.space.strengths

    def weaker(found: dict[str, Any], params: dict[str, Any]) -> bool:
        """Nothing is switched on, and no number is stronger."""
        kept = all(params.get(name) for name, on in found.items()
                   if on is True and not name.startswith("model.knowledge"))
        return kept and all(
            spans[name].strength(found[name]) <= spans[name].strength(params[name]) + 1e-9
            for name in spans if name in found and name in params)

    asked_then = [dict(study.ask().parameters.values) for _ in range(20)]
    share = sum(any(weaker(found, dict(params)) for params in nearest) for found in asked_then)
    assert share >= 14, "the others are the sampler's own"


def test_the_nearest_compete_with_startup_recipes() -> None:
    study = sampling()
    infeasible(study)
    seen: list[Recipe] = []
    study.ask(lambda recipe: seen.append(recipe) or 0.0)  # type: ignore[func-returns-value]
    assert len(seen) == DRAFTS and len(set(recipe.hash for recipe in seen)) > DRAFTS // 2
