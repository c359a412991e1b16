"""Which layers the steps of a recipe decide, and what vanishes from it."""

import pytest

from fleetfront_testing.networks import EXAMPLE, plain
from strategies.base import StrategyError
from strategies.canonical import canonical, decided
from strategies.layers import layers_of
from strategies.structure.channel_pruning import ChannelPruning
from strategies.weights.clustering import Clustering
from strategies.weights.magnitude_pruning import MagnitudePruning

LAYERS = layers_of(plain())
TUNE = {"strategy": "finetune", "layers": "model", "learning_rate": 0.01}


def prune(layers, keep_ratio, round_to=4):
    return {"strategy": "channel_pruning", "layers": layers, "keep_ratio": keep_ratio,
            "round_to": round_to}


def codes(layers, bits):
    return {"strategy": "clustering", "layers": layers, "bits": bits}


@pytest.mark.parametrize("steps, layers", [
    ([codes("model", 4)], [("0", "3", "7", "9")]),
    ([codes("model", 4), codes("convolutions", 3)], [("7", "9"), ("0", "3")]),
    ([codes("3", 2), codes("convolutions", 3)], [("3",), ("0",)]),
    ([codes("model", 4), codes("model", 3)], [(), ("0", "3", "7", "9")]),
    ([codes("model", {"3": 2, "9": 3})], [("3", "9")]),
    ([codes("model", 4), codes("model", {"3": 2})], [("0", "7", "9"), ("3",)]),
    ([prune("model", 0.5), TUNE, prune("model", 0.5)],
     [("0", "3", "7", "9"), None, ("0", "3", "7", "9")]),
    ([codes("convolutions", 4), codes("model", 3), codes("first", 2)],
     [("3",), ("7", "9"), ("0",)]),
    ([codes("depthwise", 4)], [()]),
    ([codes("7.0", 4)], [None]),
])
def test_the_narrower_step_decides(steps, layers):
    assert decided(steps, LAYERS) == layers


@pytest.mark.parametrize("step", [
    prune("9", 0.5), prune("model", 1.0), prune("0", 0.99), codes("depthwise", 4),
    {"strategy": "magnitude_pruning", "layers": "model", "keep_ratio": 1.0},
    {"strategy": "svd", "layers": "7", "rank_ratio": 0.9},
    {"strategy": "svd", "layers": "9", "rank_ratio": 0.1},
    {"strategy": "tucker", "layers": "0", "rank_ratio": 1.0},
    prune("model", {"3": 1.0, "9": 0.5}),
], ids=str)
def test_what_changes_nothing_vanishes(step):
    assert canonical([step, TUNE], LAYERS) == [TUNE]


def test_a_step_of_which_others_decide_all_layers_vanishes():
    steps = [codes("model", 4), codes("convolutions", 3), codes("fully_connected", 2)]
    assert canonical(steps, LAYERS) == steps[1:]


def test_tables_keep_the_layers_that_they_change():
    assert canonical([prune("model", {"3": 0.5, "0": 1.0, "9": 0.2})], LAYERS) == [
        prune("model", {"3": 0.5})]


def test_what_changes_something_stays():
    steps = [prune("model", 0.5), codes("7.1", 4), codes("model", 4), TUNE,
             {"strategy": "int8", "layers": "model"}]
    assert canonical(steps, LAYERS) == steps


def test_a_table_gives_each_layer_its_number():
    model = plain()
    Clustering({"3": 2, "7": 4}).attach(model, ["3", "7"], "float32")
    MagnitudePruning({"7": 0.25}).attach(model, ["7"], "float32")
    assert model[3].weight.unique().numel() <= 4
    assert model[7].weight.unique().numel() <= 16
    assert float((model[7].weight != 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    pruned = ChannelPruning({"0": 0.5, "3": 0.25}, round_to=1).apply(
        plain(), ["0", "3"], (EXAMPLE,))
    assert (pruned[0].out_channels, pruned[3].out_channels) == (8, 6)


def test_the_parts_of_a_layer_have_its_number():
    assert Clustering({"7": 3}).of_layer("7.0.1").bits == 3
    with pytest.raises(StrategyError, match="no number for layer '8', only for 7") as caught:
        Clustering({"7": 3}).of_layer("8")
    assert caught.value.reason == "unknown_layers"
