"""Steps between recipes, with one random generator."""

import random

import pytest

from searcher.search.neighbours import JITTER, Neighbours
from searcher.search.sampling import STARTUP_TRIALS
from searcher.search.space import Space
from searcher.spec.campaign import from_document
from strategies.layers import layers_of
from tests.tasks_for_tests import network

LAYERS = layers_of(network())
BOTH = frozenset({"float32", "int8"})
ONLY = {"switch": "TOGGLE", "all": "MOVE_ALL", "part": "MOVE_PART", "cross": "CROSSOVER"}


def moves(*strategies: str, seed: int = 0) -> Neighbours:
    spec = from_document({"name": "c", "task": "t", "search": {"strategies": list(strategies)}})
    return Neighbours(Space.of(spec, LAYERS, BOTH), random.Random(seed))


@pytest.fixture
def only(monkeypatch):
    def kind(name):
        for other, constant in ONLY.items():
            monkeypatch.setattr(f"searcher.search.neighbours.{constant}", float(other == name))
    return kind


def strengths_of(made, params):
    """The strength of each compression number of a recipe, from 0 (weak) to 1 (strong)."""
    return {name: span.strength(params[name]) for name, span in made.space.strengths.items()
            if name in params}


def parent_of(made, enough=2):
    drafts = iter(lambda: made.completed(made.startup(0.5))[0], None)
    return next(params for params in drafts if len(strengths_of(made, params)) >= enough)


def test_startup_recipes_have_the_given_strength() -> None:
    made = moves("channel_pruning", "magnitude_pruning", "svd")
    for rung in range(STARTUP_TRIALS):
        strength = 0.2 + 0.6 * rung / STARTUP_TRIALS
        found = strengths_of(made, made.startup(strength)).values()
        assert all(abs(value - strength) <= JITTER + 0.01 for value in found)


@pytest.mark.parametrize("weaken", [False, True])
def test_a_common_move_strengthens_or_weakens_all_numbers(weaken, monkeypatch, only) -> None:
    monkeypatch.setattr("searcher.search.neighbours.WEAKEN", float(weaken))
    monkeypatch.setattr("searcher.search.neighbours.RESAMPLE_TRAINING", 0.0)
    only("all")
    made = moves("channel_pruning", "magnitude_pruning", "svd")
    parent = parent_of(made)
    child, recipe = made.completed(made.step(parent, parent))
    before, after = strengths_of(made, parent), strengths_of(made, child)
    assert set(before) == set(after)
    assert all((before[n] > after[n]) if weaken else (before[n] < after[n]) for n in before)


def test_a_part_moves_after_the_model_is_split(monkeypatch, only) -> None:
    monkeypatch.setattr("searcher.search.neighbours.WEAKEN", 0.0)
    only("part")
    made = moves("channel_pruning")
    name = "channel_pruning.keep_ratio"
    parent, _ = made.completed({"model.channel_pruning.on": True, f"model.{name}": 0.3})
    child, recipe = made.completed(made.step(parent, parent))
    ratios = [child[f"convolutions.{name}"], child[f"fully_connected.{name}"]]
    assert child["model.channel_pruning.on"] is False
    assert max(ratios) == 0.3 and min(ratios) < 0.3, "one is stronger, the other as it was"
    assert [s.layers for s in recipe.steps][:2] == ["convolutions", "fully_connected"]
    again, _ = made.completed(made.step(child, child))
    assert sum(again[f"{part}.{name}"] == child[f"{part}.{name}"]
               for part in ("convolutions", "fully_connected")) == 1


def switches_of(params):
    return {name for name, value in params.items() if name.endswith(".on") and value}


def test_a_switch_turns_one_strategy_on_or_off_and_leaves_the_others(only) -> None:
    only("switch")
    made = moves("channel_pruning", "clustering", "int8", seed=1)
    parent, _ = made.completed({"convolutions.channel_pruning.on": True, "model.int8.on": True})
    seen = set()
    for _ in range(200):
        child = made.step(parent, parent)
        changed = switches_of(child) ^ switches_of(parent)
        assert len(changed - {"model.knowledge_distillation.on"}) == 1
        seen |= changed
        ratio = "convolutions.channel_pruning.keep_ratio"
        assert child[ratio] == parent[ratio], "with its number, should it come back"
        bits = [v for k, v in strengths_of(made, child).items() if "clustering" in k]
        assert all(0.0 <= strength <= 0.8 for strength in bits), "mild"
    assert {"model.int8.on", "convolutions.channel_pruning.on", "model.clustering.on",
            "fully_connected.channel_pruning.on", "convolutions.clustering.on"} <= seen


def test_toggle_off_in_one_part_of_the_model(only) -> None:
    only("switch")
    made = moves("channel_pruning", seed=2)
    parent, _ = made.completed({"model.channel_pruning.on": True})
    kept = parent["model.channel_pruning.keep_ratio"]
    found = [made.step(parent, parent) for _ in range(50)]
    parted = [child for child in found if not child["model.channel_pruning.on"]
              and switches_of(child)]
    assert parted
    for child in parted:
        (name,) = [n for n in switches_of(child) if "channel_pruning" in n]
        assert child[f"{name.removesuffix('.on')}.keep_ratio"] == kept


def test_of_two_parents_each_stage_comes_from_one(only) -> None:
    only("cross")
    made = moves("channel_pruning", "clustering", "int8", seed=3)
    one, _ = made.completed({"model.channel_pruning.on": True, "model.int8.on": True})
    other, _ = made.completed({"model.clustering.on": True})
    seen = set()
    for _ in range(60):
        child = made.step(one, other)
        for strategy in ("channel_pruning", "clustering", "int8"):
            mine = {k: v for k, v in child.items() if strategy in k}
            assert mine in [{k: v for k, v in p.items() if strategy in k} for p in (one, other)]
        seen.add((child["model.channel_pruning.on"], child["model.clustering.on"],
                  child["model.int8.on"]))
    assert (True, True, True) in seen and len(seen) == 8


def test_every_step_can_be_completed() -> None:
    made = moves(seed=5)
    one, other = parent_of(made), parent_of(made)
    for _ in range(200):
        params, recipe = made.completed(made.step(one, other))
        again, same = made.completed(params)
        assert same == recipe and again == params, "nothing is left to be drawn"
        one, other = params, one


def test_one_number_may_be_resampled(only, monkeypatch) -> None:
    only("none")
    monkeypatch.setattr("searcher.search.neighbours.RESAMPLE_STAGE", 0.0)
    monkeypatch.setattr("searcher.search.neighbours.RESAMPLE_TRAINING", 0.0)
    monkeypatch.setattr("searcher.search.neighbours.RESAMPLINGS", (1, 1))
    made = moves("channel_pruning", "svd", "knowledge_distillation")
    parent, _ = made.completed({"model.channel_pruning.on": True, "fully_connected.svd.on": True})
    for _ in range(20):
        child, _ = made.completed(made.step(parent, parent))
        changed = {name for name in parent if child[name] != parent[name]}
        assert len(changed) == 1 and changed <= set(made.space.strengths)


def test_the_training_may_be_resampled(only) -> None:
    only("all")
    made = moves("channel_pruning", "knowledge_distillation")
    parent, _ = made.completed({"model.channel_pruning.on": True,
                                "model.knowledge_distillation.on": True})
    steps = [made.completed(made.step(parent, parent))[1].steps[-1] for _ in range(90)]
    assert {step.strategy for step in steps} == {"finetune", "knowledge_distillation"}
    kept = sum(step == made.completed(parent)[1].steps[-1] for step in steps)
    assert 0.4 < kept / len(steps) < 0.9, "all of it at once, now and then"
