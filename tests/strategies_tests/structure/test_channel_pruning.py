import pytest
import torch
from torch import nn

from fleetfront_testing.networks import EXAMPLE, Residual, plain
from strategies.base import StrategyError
from strategies.structure.channel_pruning import ChannelPruning


@pytest.mark.parametrize("channels, keep_ratio, kept", [
    (20, 0.2, 4), (50, 0.16, 8), (20, 0.4, 8), (50, 0.24, 12), (500, 0.064, 32),
    (20, 0.001, 4), (6, 0.5, 3), (6, 0.001, 1), (7, 1.0, 7), (8, 0.01, 4),
])
def test_how_many_channels_stay(channels, keep_ratio, kept):
    assert ChannelPruning(keep_ratio).kept(channels) == kept


def test_channels_go_with_all_that_read_them():
    model = ChannelPruning(0.5).apply(plain(), ["0", "3", "7", "9"], (EXAMPLE,))
    assert [tuple(m.weight.shape) for m in model if isinstance(m, nn.Conv2d | nn.Linear)] == [
        (8, 1, 3, 3), (12, 8, 3, 3), (24, 48), (10, 24)]
    assert model(EXAMPLE).shape == (2, 10)


def test_only_the_chosen_layers_lose_channels():
    model = ChannelPruning(0.5).apply(plain(), ["3"], (EXAMPLE,))
    assert (model[0].out_channels, model[3].out_channels, model[7].out_features) == (16, 12, 48)


def test_the_channels_of_least_norm_go_and_nothing_else_changes():
    model = plain()
    silent = [0, 3, 5, 9, 11, 12, 14, 15]
    with torch.no_grad():
        model[0].weight[silent], model[0].bias[silent], model[3].weight[:, silent] = 0, 0, 0
    before = model(EXAMPLE)
    pruned = ChannelPruning(0.5).apply(model, ["0"], (EXAMPLE,))
    assert pruned[0].out_channels == 8
    torch.testing.assert_close(pruned(EXAMPLE), before)


def test_paths_that_are_added_lose_the_same_channels():
    model = ChannelPruning(0.25).apply(Residual(), ["first.0", "second.0"], (EXAMPLE,))
    assert model.first[0].out_channels == model.second[0].out_channels == 4
    assert model.first[1].num_features == model.second[1].num_features == 4
    assert model.hidden.in_features == 64


@pytest.mark.parametrize("layers, keep_ratio", [(["9"], 0.5), (["0"], 1.0)])
def test_no_channel_to_remove_is_said(layers, keep_ratio):
    with pytest.raises(StrategyError, match="removes no channel") as caught:
        ChannelPruning(keep_ratio).apply(plain(), layers, (EXAMPLE,))
    assert caught.value.reason == "nothing_to_do"


@pytest.mark.parametrize("cut", [
    lambda x: sum(x.chunk(2, 1)), lambda x: sum(x.split(8, 1)), lambda x: x[:, [0, 3, 9, 12] * 2],
], ids=["chunk", "split", "index"])
def test_a_graph_that_cuts_channels_is_unsupported(cut):
    with pytest.raises(StrategyError) as caught:
        ChannelPruning(0.5).apply(Cut(cut, 8), ["before"], (EXAMPLE,))
    assert caught.value.reason == "unsupported_graph"


class Cut(nn.Module):
    def __init__(self, cut, left) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.before, self.cut = nn.Conv2d(1, 16, 3), cut
        self.after, self.last = nn.Conv2d(left, 8, 3), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.after(self.cut(self.before(x).relu())).mean((2, 3)))


@pytest.mark.parametrize("parameters", [
    {"keep_ratio": 0.0}, {"keep_ratio": 1.1}, {"keep_ratio": float("nan")},
    {"keep_ratio": 0.5, "round_to": 0},
])
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(StrategyError) as caught:
        ChannelPruning(**parameters)
    assert caught.value.reason == "bad_parameters"


class Worded(nn.Module):
    """A sum of features of a picture and of the embeddings of tokens."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.first, self.words, self.head = nn.Linear(6, 8), nn.Embedding(5, 8), nn.Linear(8, 3)

    def forward(self, picture, tokens):
        return {"logits": self.head(torch.relu(self.first(picture) + self.words(tokens).sum(1)))}


def test_channels_of_embeddings_go_with_the_layer_that_they_are_added_to():
    inputs = (torch.rand(2, 6), torch.tensor([[0, 4], [1, 2]]))
    model = ChannelPruning(0.5).apply(Worded().eval(), ["first"], inputs)
    assert model.words.weight.shape == (5, 4) and model.first.out_features == 4
    assert model(*inputs)["logits"].shape == (2, 3)
