import pytest
from torch import nn

from fleetfront_testing.networks import EXAMPLE, plain
from strategies.base import StrategyError
from strategies.layers import layers_of, select
from strategies.structure.svd import Svd
from strategies.weights.magnitude_pruning import MagnitudePruning


def test_layers_in_order_with_kind_and_shape():
    assert [(x.name, x.kind, x.weight_shape) for x in layers_of(plain())] == [
        ("0", "convolution", (16, 1, 3, 3)), ("3", "convolution", (24, 16, 3, 3)),
        ("7", "fully_connected", (48, 96)), ("9", "fully_connected", (10, 48))]


@pytest.mark.parametrize("group, names", [
    ("model", ["0", "3", "7", "9"]), ("convolutions", ["0", "3"]),
    ("fully_connected", ["7", "9"]), ("first", ["0"]), ("last", ["9"]), ("3", ["3"])])
def test_groups(group, names):
    assert select(layers_of(plain()), group) == names


def test_an_unknown_group_names_the_nearest():
    with pytest.raises(StrategyError, match="'convolution'.*'convolutions'") as caught:
        select(layers_of(plain()), "convolution")
    assert caught.value.reason == "unknown_layers"


def test_a_group_that_the_model_lacks_is_unknown():
    with pytest.raises(StrategyError) as caught:
        select(layers_of(nn.Sequential(nn.Linear(2, 2))), "convolutions")
    assert caught.value.reason == "unknown_layers"


def test_replaced_and_parametrized_layers_are_still_layers():
    model = Svd(0.25).apply(plain(), ["7"], (EXAMPLE,))
    MagnitudePruning(0.5).attach(model, ["3", "7.0"], number_format="float32")
    assert [x.name for x in layers_of(model)] == ["0", "3", "7.0", "7.1", "9"]
