"""Pruned channels must not feed others to the wrong weights, whatever the shapes say."""

import pytest
import torch
from torch import nn

from fleetfront_testing.networks import EXAMPLE, plain
from strategies.base import StrategyError
from strategies.structure.channel_pruning import ChannelPruning
from tests.strategies_tests.structure.test_channel_pruning import Cut


@pytest.mark.parametrize("cut, left", [
    (lambda x: x.flip(1), 16), (lambda x: x.roll(3, 1), 16), (lambda x: x[:, -8:], 8),
    (lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2), 16),
], ids=["flip", "roll", "slice", "shuffle"])
def test_fitting_shapes_are_not_enough(cut, left):
    model = Cut(cut, left)
    with torch.no_grad():
        model.before.weight[8:] *= 1e-3
        model.before.bias[8:] *= 1e-3
    with pytest.raises(StrategyError, match="wrong weights") as caught:
        ChannelPruning(0.5).apply(model, ["before"], (EXAMPLE,))
    assert caught.value.reason == "unsupported_graph"


class Woven(nn.Module):
    """Depthwise, concatenated, transposed and gated channels, and activations with f(0) != 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.a, self.norm = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.both, self.up = nn.Conv2d(32, 16, 1), nn.ConvTranspose2d(16, 8, 2, 2)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.last = nn.Linear(8, 10)
        nn.init.uniform_(self.norm.bias)

    def forward(self, x):
        x = torch.sigmoid(self.norm(self.a(x)))
        x = torch.cat([x, torch.sigmoid(self.depthwise(x))], 1)
        x = torch.sigmoid(self.up(torch.sigmoid(self.both(x))))
        gate = torch.sigmoid(self.excite(self.squeeze(x.mean((2, 3))).relu()))
        return self.last((x * gate[:, :, None, None]).mean((2, 3)))


def test_graphs_that_can_be_followed_are_not_refused():
    model = ChannelPruning(0.5).apply(Woven(), ["a", "both", "squeeze", "excite"], (EXAMPLE,))
    assert model.a.out_channels == model.depthwise.out_channels == 8
    assert (model.both.in_channels, model.both.out_channels) == (16, 8)
    assert (model.up.in_channels, model.up.out_channels) == (8, 4)


class Auxiliary(nn.Module):
    """A second classifier on the first convolution, in training only or never."""

    def __init__(self, auxiliary: bool) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.a, self.b = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)
        self.norm, self.drop = nn.BatchNorm2d(8), nn.Dropout(0.5)
        self.aux, self.head = nn.Linear(8, 4), nn.Linear(16, 4)
        self.auxiliary = auxiliary

    def forward(self, x):
        x = self.norm(self.a(x)).relu()
        y = self.head(self.drop(self.b(x).relu().mean((2, 3))))
        return (y, self.aux(x.mean((2, 3)))) if self.training and self.auxiliary else y


def test_classifiers_that_only_training_has_lose_their_channels_too():
    model = ChannelPruning(0.5, round_to=1).apply(Auxiliary(True), ["a", "b"], (EXAMPLE,))
    assert (model.a.out_channels, model.aux.in_features, model.head.in_features) == (4, 4, 8)
    assert not any(module.training for module in model.modules())
    outputs, auxiliary = model.train()(EXAMPLE)
    assert outputs.shape == auxiliary.shape == (2, 4)


def test_the_graph_of_evaluation_is_followed_where_there_is_no_other():
    model = ChannelPruning(0.5, round_to=1).apply(Auxiliary(False), ["a", "b"], (EXAMPLE,))
    assert (model.a.out_channels, model.aux.in_features, model.head.in_features) == (4, 8, 8)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(144, 8), nn.Linear(144, 8)

    def forward(self, x):
        return self.a(x.flatten(1)) + self.b(x.flatten(1))


def test_outputs_tied_to_the_last_layer_stay():
    with pytest.raises(StrategyError) as caught:
        ChannelPruning(0.5).apply(TwoHeads(), ["a"], (EXAMPLE,))
    assert caught.value.reason == "nothing_to_do"


def test_keeping_all_keeps_all():
    assert [ChannelPruning(1.0).kept(n) for n in (10, 50, 75)] == [10, 50, 75]
    with pytest.raises(StrategyError, match="removes no channel"):
        ChannelPruning(1.0).apply(plain(), ["0", "3", "7"], (EXAMPLE,))
