import pytest
import torch
from torch import nn

from fleetfront_testing.networks import EXAMPLE, Residual, plain
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


class Mobile(nn.Module):
    """A head that is registered first, a layer that is not used, tied and depthwise ones."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.unused = nn.Linear(32, 9)
        self.expand = nn.Conv2d(1, 8, 1)
        self.depth = nn.Conv2d(8, 8, 3, groups=8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.a = nn.Linear(8, 8)
        self.b = self.a

    def forward(self, x):
        x = self.up(self.depth(self.expand(x))).mean((2, 3))
        return self.head(self.b(self.a(x)))


def test_with_an_example_layers_follow_execution():
    layers = layers_of(Mobile(), (EXAMPLE,))
    assert [layer.name for layer in layers] == ["expand", "depth", "up", "a", "head"]
    assert [layer.name for layer in layers if layer.output] == ["head"]
    for group, names in {"first": ["expand"], "last": ["head"], "depthwise": ["depth"],
                         "pointwise": ["expand"], "convolutions": ["expand", "depth", "up"],
                         "fully_connected": ["a", "head"]}.items():
        assert select(layers, group) == names


def test_the_example_changes_nothing_for_a_sequence():
    assert layers_of(plain(), (EXAMPLE,)) == layers_of(plain())
    assert layers_of(Residual(), (EXAMPLE,)) == layers_of(Residual())


@pytest.mark.parametrize("module, group", [
    (nn.Conv1d(4, 8, 3), "convolutions"), (nn.Conv3d(4, 4, 3, groups=4), "depthwise"),
    (nn.Conv1d(4, 8, 1), "pointwise"), (nn.ConvTranspose3d(4, 8, 3), "convolutions")])
def test_convolutions_of_any_number_of_axes(module, group):
    assert select(layers_of(nn.Sequential(module)), group) == ["0"]


def test_a_network_without_layers_has_none():
    assert layers_of(nn.Sequential(nn.ReLU()), (torch.rand(1, 3),)) == ()
