"""A number for each layer, from what a scan found."""

import random
from dataclasses import replace

import pytest

from searcher.search.neighbours import Neighbours
from searcher.search.recipes.recipe_features import Features
from searcher.search.recipes.tables import LayerScan, resolved
from searcher.search.space import Space
from strategies.layers import layers_of
from tests.searcher_tests.fake_coordinator import campaign
from tests.tasks_for_tests import network

LAYERS = layers_of(network())
SIZES = {"conv1": 54, "conv2": 324, "fc1": 864, "fc2": 64}
BITS = (2, 3, 4, 5, 6, 8)
SENSITIVE = {"conv1": 100.0, "conv2": 1.0, "fc1": 1.0, "fc2": 10.0}


def scan() -> LayerScan:
    """Each further bit quarters a loss; ``conv1`` is the most sensitive layer."""
    return LayerScan(
        {name: {bits: SENSITIVE[name] * 0.25**bits for bits in BITS} for name in SIZES},
        {name: {bits: (size * bits / 8, 0.0) for bits in BITS} for name, size in SIZES.items()})


@pytest.mark.parametrize("mean", [2, 3, 4, 4.5])
def test_a_table_costs_no_more_than_its_mean_on_every_layer(mean: float) -> None:
    found = scan().table(list(SIZES), mean, 0)
    used = sum(SIZES[name] * bits for name, bits in found.items())
    assert used <= mean * sum(SIZES.values())
    assert found["conv1"] >= found["fc1"], "the sensitive layer has more bits"
    if mean == 4:
        loss = sum(scan().losses[name][bits] for name, bits in found.items())
        assert loss < sum(scan().losses[name][4] for name in SIZES)


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
    partial = LayerScan({"conv1": scan().losses["conv1"]}, {"conv1": scan().costs["conv1"]})
    assert resolved(steps, LAYERS, {"clustering": partial}) == steps


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
