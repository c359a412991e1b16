"""A number for each layer, from what a scan found."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from searcher.search.neighbours import Neighbours
from searcher.search.recipes.recipe_features import Features
from searcher.search.recipes.tables import allowed_strength, resolved, strengths
from searcher.search.sampling import Sampling
from searcher.search.space import Space
from searcher.spec.recipe import Recipe
from searcher.spec.scan_result import LayerScan, ScanLevel, ScanResult
from strategies.base import Limits
from strategies.layers import layers_of
from tests.searcher_tests.fake_coordinator import campaign
from tests.tasks_for_tests import network

LAYERS = layers_of(network())
SIZES = {"conv1": 54, "conv2": 324, "fc1": 864, "fc2": 64}
BITS = (2, 3, 4, 5, 6, 8)
SENSITIVE = {"conv1": 100.0, "conv2": 1.0, "fc1": 1.0, "fc2": 10.0}


def scan(layers: Sequence[str] = tuple(SIZES)) -> ScanResult:
    """Each further bit quarters a loss; ``conv1`` is the most sensitive layer."""
    return ScanResult("clustering", "bits", tuple(LayerScan(name, SIZES[name], tuple(
        ScanLevel(bits, SENSITIVE[name] * 0.25**bits, SIZES[name] * bits / 8, 1000)
        for bits in BITS)) for name in layers), 128)


@pytest.mark.parametrize("mean", [2, 3, 4, 4.5])
def test_a_table_costs_no_more_than_its_mean_on_every_layer(mean: float) -> None:
    found = strengths(scan(), list(SIZES), mean, "file_bytes", BITS)
    used = sum(SIZES[name] * bits for name, bits in found.items())
    assert used <= mean * sum(SIZES.values())
    assert found["conv1"] >= found["fc1"], "the sensitive layer has more bits"
    if mean == 4:
        losses = scan().losses
        loss = sum(losses[name][bits] for name, bits in found.items())
        assert loss < sum(losses[name][4] for name in SIZES)


def test_a_strength_is_weakened_to_what_the_scan_allows() -> None:
    assert allowed_strength(None, 4) == 4
    losses = {bits: sum(layer[bits] for layer in scan().losses.values()) for bits in BITS}
    assert losses[6] < 0.1 < losses[5]
    assert allowed_strength(scan(), 4) == 6
    assert allowed_strength(scan(), 8) == 8
    assert allowed_strength(scan(["fc1"]), 2) == 2


def test_numbers_of_a_scanned_strategy_become_tables() -> None:
    steps = [{"strategy": "clustering", "layers": "model", "bits": 4},
             {"strategy": "finetune", "layers": "model", "learning_rate": 0.01}]
    [clustering, finetune] = resolved(steps, LAYERS, {"clustering": scan()})
    table = clustering["bits"]
    assert isinstance(table, dict) and set(table) == set(SIZES)
    assert all(isinstance(bits, int) for bits in table.values()) and finetune == steps[1]
    assert resolved(steps, LAYERS, {}) == steps, "without a scan one number for all"
    few = [{"strategy": "clustering", "layers": "fully_connected", "bits": 4}]
    assert resolved(few, LAYERS, {"clustering": scan()}) == few, "two layers"
    assert resolved(steps, LAYERS, {"clustering": scan(["conv1", "fc1"])}) == steps
    narrow = [{"strategy": "clustering", "layers": "first", "bits": 4}]
    assert resolved(narrow, LAYERS, {"clustering": scan()}) == narrow


def test_layers_that_a_scan_left_out_go_with_others() -> None:
    steps = [{"strategy": "clustering", "layers": "model", "bits": 4}]
    [step] = resolved(steps, LAYERS, {"clustering": scan(["conv1", "conv2", "fc1"])})
    assert set(step["bits"]) == {"conv1", "conv2", "fc1"}


def test_a_move_changes_one_layer_by_levels() -> None:
    steps = [{"strategy": "clustering", "layers": "model", "bits": 4}]
    [before] = resolved(steps, LAYERS, {"clustering": scan()})
    moves = {"model.clustering.bits@fc1": 1, "model.clustering.bits@conv2": -3,
             "fully_connected.clustering.bits@fc2": 1}
    [after] = resolved(steps, LAYERS, {"clustering": scan()}, moves)
    assert after["bits"] == {
        **before["bits"], "conv2": 2, "fc1": BITS[BITS.index(before["bits"]["fc1"]) + 1]}


def test_a_space_with_a_scan_samples_tables() -> None:
    spec = campaign(search={"strategies": ["clustering"]})
    space = replace(Space.of(spec, LAYERS, frozenset({"float32"})), scans={"clustering": scan()})
    draft = {"model.clustering.on": True, "model.clustering.bits": 3}
    _, recipe = Neighbours(space, random.Random(0)).completed(draft)
    [step] = [step for step in recipe.steps if step.strategy == "clustering"]
    bits = dict(step.parameters)["bits"]
    assert isinstance(bits, tuple) and {"conv2", "fc1"} <= {name for name, _ in bits}
    features = dict(zip(Features(space).names, Features(space).of(recipe), strict=True))
    assert any(value > 0 for name, value in features.items() if name.endswith("clustering"))


def bits_of(recipe: Recipe) -> dict[str, int]:
    [step] = [step for step in recipe.steps if step.strategy == "clustering"]
    return dict(dict(step.parameters)["bits"])


def test_numbers_of_layers_keep_the_users_limits() -> None:
    limits = {"clustering.bits": [3, 4]}
    spec = campaign(search={"strategies": ["clustering"], "limits": limits})
    space = replace(Space.of(spec, LAYERS, frozenset({"float32"})), scans={"clustering": scan()})
    neighbours = Neighbours(space, random.Random(0))
    parent, recipe = neighbours.completed({
        "model.clustering.on": True, "model.clustering.bits": 4,
        "model.clustering.bits@conv1": 3, "model.clustering.bits@fc1": -3})
    recipes = [recipe, *(neighbours.completed(neighbours.step(parent, parent))[1]
                         for _ in range(60))]
    tables = [dict(s.parameters)["bits"] for r in recipes for s in r.steps
              if s.strategy == "clustering" and s.layers == "model"]
    assert len(tables) > 10
    assert {bits for table in tables for _, bits in table} == {3, 4}
    one = campaign(search={"strategies": ["clustering"], "limits": {"clustering.bits": [4, 4]}})
    steps = [{"strategy": "clustering", "layers": "model", "bits": 4}]
    assert resolved(steps, LAYERS, {"clustering": scan()}, limits=Limits(
        dict(one.search.limits))) == steps, "one level is one number"


def test_layers_move_only_where_they_have_numbers() -> None:
    spec = campaign(search={"strategies": ["clustering"]})
    space = replace(Space.of(spec, LAYERS, frozenset({"float32"})), scans={"clustering": scan()})
    assert set(space.movable) == {"model.clustering"}, "the parts have two layers each"
    assert space.movable["model.clustering"] == ("bits", list(SIZES))


def test_a_neighbour_moves_a_single_layer() -> None:
    spec = campaign(search={"strategies": ["clustering"]})
    space = replace(Space.of(spec, LAYERS, frozenset({"float32"})), scans={"clustering": scan()})
    neighbours = Neighbours(space, random.Random(0))
    parent, before = neighbours.completed({"model.clustering.on": True, "model.clustering.bits": 4})
    steps = [neighbours.completed(neighbours.step(parent, parent)) for _ in range(100)]
    moved = [(p, r) for p, r in steps if any("@" in name for name in p)]
    assert moved
    for parameters, recipe in moved:
        [(name, by)] = [(n, v) for n, v in parameters.items() if "@" in n]
        assert abs(by) == 1 and name.partition("@")[2] in SIZES
        if parameters["model.clustering.bits"] == 4:
            layer, tables = name.partition("@")[2], [bits_of(r) for r in (before, recipe)]
            assert all(tables[0].get(n) == tables[1].get(n) for n in SIZES if n != layer)
            assert tables[0].get(layer) != tables[1].get(layer) or layer not in tables[0] or (
                tables[0][layer] in (BITS[0], BITS[-1]))
    again, _ = neighbours.completed({**moved[0][0], "model.clustering.on": False})
    assert not any("@" in name for name in again), "moves go with their strategy"


def test_the_study_restores_moves() -> None:
    spec = campaign(search={"strategies": ["clustering"]})
    space = replace(Space.of(spec, LAYERS, frozenset({"float32"})), scans={"clustering": scan()})
    sampling = Sampling(spec, space)
    draft = {"model.clustering.on": True, "model.clustering.bits": 4,
             "model.clustering.bits@fc1": 1}
    proposal = sampling.ask(draft=draft)
    assert proposal.parameters.values["model.clustering.bits@fc1"] == 1
    assert set(proposal.parameters.distributions) == set(proposal.parameters.values)
    plain = sampling.ask(draft={k: v for k, v in draft.items() if "@" not in k})
    assert plain.recipe != proposal.recipe
