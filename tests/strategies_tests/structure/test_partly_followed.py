"""Where some channels cannot be followed, the others go, and what is left says why."""

import copy

import pytest
import torch
from torch import nn

from fleetfront_testing.networks import EXAMPLE, plain
from strategies.base import StrategyError
from strategies.dataflow import follow
from strategies.layers import layers_of
from strategies.structure.channel_pruning import ChannelPruning


def halved(model, layers=None, example=EXAMPLE):
    chosen = layers or [layer.name for layer in layers_of(model, (example,))]
    return ChannelPruning(0.5).restructure(model.eval(), chosen, (example,))


class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.c = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3)
        self.d, self.hidden = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(32, 24)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        a, b = torch.relu(self.c(torch.relu(self.stem(x)))).chunk(2, 1)
        x = torch.cat([a, torch.relu(self.d(b))], 1).mean((2, 3))
        return self.head(torch.relu(self.hidden(x)))


def test_channels_in_chunks_stay_and_the_rest_goes():
    made = halved(Shuffle())
    assert {name: len(kept) for name, kept in made.kept.items()} == {"stem": 8, "hidden": 12}
    assert set(made.left) == {"c", "d", "head"}
    assert "chunk in Shuffle" in made.left["c"]
    assert made.left["head"] == "its channels are outputs of the model"
    assert made.model(EXAMPLE).shape == (2, 4)


def test_when_nothing_can_go_layer_and_operator_are_named():
    with pytest.raises(StrategyError, match="c: .*chunk in Shuffle") as caught:
        halved(Shuffle(), ["c", "d"])
    assert caught.value.reason == "unsupported_graph"


class Attending(nn.Module):
    """Attention by hand, with heads that a reshape makes, or by torch's module."""

    def __init__(self, own):
        super().__init__()
        torch.manual_seed(6)
        self.own, self.embed, self.norm = own, nn.Linear(12, 32), nn.LayerNorm(32)
        self.attention = nn.Linear(32, 96) if own else nn.MultiheadAttention(
            32, 4, batch_first=True)
        self.up, self.down, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 4)

    def forward(self, x):
        x = self.norm(self.embed(x[:, 0]))
        if self.own:
            q, k, v = self.attention(x).reshape(len(x), -1, 3, 4, 8).permute(2, 0, 3, 1, 4)
            seen = torch.softmax(q @ k.mT, -1) @ v
            x = x + seen.transpose(1, 2).flatten(2)
        else:
            x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head((x + self.down(torch.relu(self.up(x)))).mean(1))


@pytest.mark.parametrize("own", [True, False])
def test_heads_of_attention_stay_and_hidden_layers_go(own):
    model = Attending(own)
    made = halved(copy.deepcopy(model))
    assert {name: len(kept) for name, kept in made.kept.items()} == {"up": 32}
    assert made.model.up.out_features == made.model.down.in_features == 32
    assert made.model.embed.out_features == 32
    assert made.model(EXAMPLE).shape == (2, 4)
    reason = made.left["attention" if own else "attention.out_proj"]
    assert ("view or reshape in Attending" if own else "addmm in attention") in reason


def test_the_hidden_layer_of_torchs_encoder_layer_goes():
    model = nn.Sequential(nn.Flatten(1, 2), nn.Linear(12, 32),
                          nn.TransformerEncoderLayer(32, 4, 64, batch_first=True),
                          nn.Flatten(), nn.Linear(12 * 32, 4))
    made = halved(model)
    assert list(made.kept) == ["2.linear1"]
    with torch.no_grad():
        assert made.model(EXAMPLE).shape == (2, 4)


def test_outputs_are_found_by_the_graph():
    class HeadFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.c1 = nn.Linear(16, 4), nn.Conv2d(1, 16, 3)
            self.c2, self.unused = nn.Conv2d(16, 16, 3), nn.Linear(16, 16)

        def forward(self, x):
            return self.head(torch.relu(self.c2(torch.relu(self.c1(x)))).mean((2, 3)))

    made = halved(HeadFirst(), ["head", "c1", "c2", "unused"])
    assert {name: len(kept) for name, kept in made.kept.items()} == {"c1": 8, "c2": 8}
    assert made.left == {"head": "its channels are outputs of the model",
                         "unused": "the model does not use it"}
    assert (made.model.head.out_features, made.model.unused.out_features) == (4, 16)


def test_frozen_parameters_stay_frozen():
    model = plain()
    model[0].requires_grad_(False)
    made = halved(model)
    assert [p.requires_grad for p in made.model.parameters()] == [False] * 2 + [True] * 6
    wholly = halved(plain().requires_grad_(False))
    assert not any(p.requires_grad for p in wholly.model.parameters())
    assert wholly.kept == made.kept


def test_kept_channels_are_those_of_the_model_before():
    model = plain()
    made = halved(copy.deepcopy(model), ["0", "3", "7"])
    kept = {name: list(channels) for name, channels in made.kept.items()}
    assert {name: len(channels) for name, channels in kept.items()} == {"0": 8, "3": 12, "7": 24}
    assert torch.equal(made.model[0].weight, model[0].weight[kept["0"]])
    assert torch.equal(made.model[3].weight, model[3].weight[kept["3"]][:, kept["0"]])
    assert torch.equal(made.model[7].bias, model[7].bias[kept["7"]])


@pytest.mark.parametrize("one, two", [
    (nn.Conv1d(12, 16, 3), nn.Conv1d(16, 16, 3)),
    (nn.ConvTranspose1d(12, 16, 3), nn.Conv1d(16, 16, 3)),
])
def test_convolutions_of_one_axis(one, two):
    model = nn.Sequential(nn.Flatten(1, 2), one, nn.ReLU(), two, nn.AdaptiveAvgPool1d(1),
                          nn.Flatten(), nn.Linear(16, 4))
    made = halved(model, ["1", "3"])
    assert {name: len(kept) for name, kept in made.kept.items()} == {"1": 8, "3": 8}
    assert made.model(EXAMPLE).shape == (2, 4)


class Grouped(nn.Module):
    """Normalization and a convolution in four groups of channels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(8)
        self.a, self.norm = nn.Conv2d(1, 32, 3), nn.GroupNorm(4, 32)
        self.b, self.layer_norm = nn.Conv2d(32, 32, 3, groups=4), nn.LayerNorm(32)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.norm(self.a(x)))))
        return self.head(self.layer_norm(x.mean((2, 3))))


def test_channels_in_groups_stay_with_their_group():
    made = halved(Grouped())
    of_group = [[channel // 8 for channel in made.kept[name]] for name in ("a", "b")]
    assert of_group == [[group for group in range(4) for _ in range(4)]] * 2
    assert made.model.b.weight.shape == (16, 4, 3, 3)
    assert made.model.norm.num_channels == 16 and made.model.layer_norm.normalized_shape == (16,)


def test_the_outputs_of_the_whole_are_never_cut():
    made = halved(Grouped())
    flow = follow(made.model, (EXAMPLE,))
    assert flow.producers(made.model, ["head"]) == {"head"}
    assert made.model.head.out_features == 4
