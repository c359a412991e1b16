"""Networks with constrained weights after repair: close to the dense one, as promised, the same
every time."""

import pytest
import torch
from torch import nn

from fleetfront_testing.networks import Noise, Residual, equal_states
from strategies.base import Fidelity, StrategyError
from strategies.encoding.export import baked
from strategies.layers import layers_of
from strategies.repair.batchnorm import fold_batchnorm
from strategies.repair.weights import repair_weights
from strategies.training.finetune import Finetune
from strategies.weights.clustering import Clustering
from strategies.weights.magnitude_pruning import MagnitudePruning

INPUTS = torch.rand(256, 1, 12, 12, generator=torch.Generator().manual_seed(0))
OTHERS = torch.rand(256, 1, 12, 12, generator=torch.Generator().manual_seed(1))
ORDERS = pytest.mark.parametrize("steps", [
    [MagnitudePruning(0.4)], [Clustering(2)], [MagnitudePruning(0.4), Clustering(3)],
    [Clustering(3), MagnitudePruning(0.4)]], ids=["mask", "share", "mask-share", "share-mask"])


def folded():
    return fold_batchnorm(Residual(), (INPUTS[:1],))


class Separable(nn.Module):
    """Depthwise and pointwise convolutions whose channels have unlike sizes, as folding leaves
    them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 24, 1)
        self.grouped = nn.Conv2d(24, 24, 3, groups=4)
        self.last = nn.Linear(24, 10)
        with torch.no_grad():
            self.depthwise.weight *= torch.logspace(-1, 1, 16).view(-1, 1, 1, 1)
        self.eval()

    def forward(self, x):
        x = torch.relu(self.depthwise(torch.relu(self.stem(x))))
        x = torch.relu(self.grouped(torch.relu(self.pointwise(x))))
        return self.last(x.mean((2, 3)))


def attached(model, *steps, number_format="float32"):
    for step in steps:
        step.attach(model, [layer.name for layer in layers_of(model)], number_format)
    return model


def repaired(model, *steps, number_format="float32", inputs=INPUTS):
    attached(model, *steps, number_format=number_format)
    repair_weights(model, (inputs,))
    return model


@torch.no_grad()
def loss(model, dense):
    """Squared error of the outputs on inputs that repair has not seen, relative to variance."""
    wanted = dense(OTHERS)
    return float((baked(model)(OTHERS) - wanted).square().sum()
                 / (wanted - wanted.mean(0)).square().sum())


@pytest.mark.parametrize("make", [folded, Separable])
@ORDERS
def test_repair_wins_back_most(make, steps):
    dense = make()
    assert loss(repaired(make(), *steps), dense) < 0.4 * loss(attached(make(), *steps), dense)


@pytest.mark.parametrize("make", [folded, Separable])
@pytest.mark.parametrize("number_format", ["float32", "int8"])
def test_more_bits_lose_less(make, number_format):
    dense = make()
    losses = [loss(repaired(make(), Clustering(bits), number_format=number_format), dense)
              for bits in (2, 4, 8)]
    assert losses[0] > 3 * losses[1] > 9 * losses[2]
    assert losses[2] < 1e-3


@ORDERS
def test_constraints_hold_at_once_and_after_training(steps):
    model = repaired(folded(), *steps)
    values = min((2**step.bits for step in steps if isinstance(step, Clustering)), default=None)
    masked = any(isinstance(step, MagnitudePruning) for step in steps)
    for trained in (False, True):
        if trained:
            zeros = {layer.name: model.get_submodule(layer.name).weight == 0
                     for layer in layers_of(model)}
            model, _ = Finetune(1e-3).train(model, None, Noise(8), Fidelity("short", 1), None)
        for layer in layers_of(model):
            weight = model.get_submodule(layer.name).weight.detach()
            if values:
                assert 2 <= len(weight.unique()) <= values
            if masked:
                assert int((weight != 0).sum()) <= weight.numel() * 0.4
                assert not trained or (weight[zeros[layer.name]] == 0).all()


def test_training_goes_on_from_the_repaired_network():
    model, dense = repaired(folded(), Clustering(2)), folded()
    before = loss(model, dense)
    model, _ = Finetune(1e-6).train(model, None, Noise(2), Fidelity("short", 1), None)
    assert loss(model, dense) == pytest.approx(before, rel=0.05)


def test_a_depthwise_convolution_has_a_scale_per_filter_and_8_bits():
    model = repaired(Separable(), Clustering(2))
    weight = model.depthwise.weight.detach()
    codebook = model.depthwise.parametrizations.weight[0]
    units = weight / codebook.scale
    assert torch.equal(units, units.round()) and units.abs().max() == 127
    assert torch.equal(units * codebook.scale, weight)
    assert len(model.pointwise.weight.unique()) <= 4


def test_filters_of_unlike_sizes_are_all_kept():
    model, latent = Separable(), Separable().depthwise.weight.detach()
    Clustering(8).attach(model, ["depthwise"], "float32")
    repair_weights(model, (INPUTS,))
    lost = (model.depthwise.weight.detach() - latent).flatten(1).norm(dim=1)
    assert (lost < 0.05 * latent.flatten(1).norm(dim=1)).all()


def test_bits_of_depthwise_convolutions_alone_are_those_of_the_step():
    model = Separable()
    Clustering(3).attach(model, ["depthwise"], "float32")
    repair_weights(model, (INPUTS,))
    units = model.depthwise.weight.detach() / model.depthwise.parametrizations.weight[0].scale
    assert 2 <= len(units.unique()) <= 8


def test_each_layer_has_its_own_bits():
    model = Separable()
    bits = {"stem": 5, "pointwise": 3, "grouped": 2, "last": 4}
    for name, wanted in bits.items():
        Clustering(wanted).attach(model, [name], "float32")
    repair_weights(model, (INPUTS,))
    for name, wanted in bits.items():
        assert 2 ** (wanted - 1) < len(model.get_submodule(name).weight.unique()) <= 2**wanted


def test_only_the_named_layers_change():
    model = attached(folded(), Clustering(2))
    before = baked(model)
    repair_weights(model, (INPUTS,), layers=["hidden"])
    after = baked(model)
    changed = {name for name, value in after.state_dict().items()
               if not torch.equal(value, before.state_dict()[name])}
    assert changed == {"hidden.weight", "hidden.bias"}


@ORDERS
def test_the_same_samples_give_the_same_bits(steps):
    assert equal_states(repaired(folded(), *steps), repaired(folded(), *steps))


def test_little_memory_is_enough():
    model = attached(folded(), Clustering(3))
    repair_weights(model, (INPUTS,), memory_bytes=1 << 20)
    assert loss(model, folded()) < 0.4 * loss(attached(folded(), Clustering(3)), folded())


@pytest.mark.parametrize("count", [1, 8])
def test_few_samples(count):
    model, plain = repaired(folded(), Clustering(3), inputs=INPUTS[:count]), folded()
    assert loss(model, plain) < 1.2 * loss(attached(folded(), Clustering(3)), plain)


def test_without_samples_there_is_no_repair():
    with pytest.raises(StrategyError) as caught:
        repaired(folded(), Clustering(3), inputs=INPUTS[:0])
    assert caught.value.reason == "no_calibration"


class Odd(nn.Module):
    """A layer called twice, one never called, one whose weight is read past its call, layers
    without bias, tokens first, a transposed convolution and two inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.twice = nn.Linear(8, 8, bias=False)
        self.unused = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.up = nn.ConvTranspose1d(8, 4, 3, stride=2)
        self.last = nn.Linear(4, 3, bias=False)
        self.eval()

    def forward(self, x, shift):
        x = torch.relu(self.twice(torch.relu(self.twice(x)))) + shift.unsqueeze(1)
        tokens = x.transpose(0, 1)
        x = x + self.attention(tokens, tokens, tokens)[0].transpose(0, 1)
        return self.last(self.up(x.transpose(1, 2)).mean(2))


def test_layers_of_odd_use():
    source = torch.Generator().manual_seed(6)
    inputs = torch.rand(70, 5, 8, generator=source), torch.rand(70, 8, generator=source)
    losses = []
    for repair in (False, True):
        model = attached(Odd(), Clustering(3))
        if repair:
            repair_weights(model, inputs)
        for name in ("twice", "unused", "attention.out_proj", "up", "last"):
            assert 2 <= len(model.get_submodule(name).weight.unique()) <= 8
        with torch.no_grad():
            losses.append(float((model(*inputs) - Odd()(*inputs)).square().mean()))
    assert losses[1] < 0.6 * losses[0]


def test_a_net_without_constraints_stays():
    model = folded()
    repair_weights(model, (INPUTS,))
    assert equal_states(model, folded())
