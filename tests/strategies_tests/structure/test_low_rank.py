import pytest
import torch
from torch import nn

from fleetfront_testing.networks import EXAMPLE, Residual, plain
from strategies.base import StrategyError
from strategies.layers import layers_of
from strategies.structure.svd import Svd
from strategies.structure.tucker import Tucker


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_svd_splits_at_the_rank_and_is_the_best_of_that_rank():
    model = plain()
    weight = model[7].weight.detach().double().clone()
    pair = Svd(0.25).apply(model, ["7"], (EXAMPLE,))[7]
    assert [tuple(m.weight.shape) for m in pair] == [(12, 96), (48, 12)]
    assert pair[0].bias is None
    product = (pair[1].weight @ pair[0].weight).detach().double()
    _, values, _ = torch.linalg.svd(weight)
    left_over = values[12:].square().sum().sqrt()
    torch.testing.assert_close((weight - product).norm(), left_over, rtol=1e-4, atol=1e-6)


def test_svd_of_a_low_rank_layer_changes_nothing():
    model = plain()
    with torch.no_grad():
        model[7].weight.copy_(torch.randn(48, 6) @ torch.randn(6, 96))
    before = model(EXAMPLE)
    torch.testing.assert_close(Svd(0.125).apply(model, ["7"], (EXAMPLE,))(EXAMPLE), before,
                               rtol=1e-3, atol=1e-4)


def test_tucker_is_one_by_one_then_the_kernel_then_one_by_one():
    model = Tucker(0.5).apply(plain(), ["0", "3"], (EXAMPLE,))
    assert [tuple(m.weight.shape) for m in model[3]] == [
        (8, 16, 1, 1), (12, 8, 3, 3), (24, 12, 1, 1)]
    assert isinstance(model[0], nn.Conv2d), "the first would not get smaller"


def test_tucker_keeps_the_mode_of_few_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 5, stride=2, padding=2))
    split = Tucker(0.25).apply(model, ["0"], (torch.rand(1, 3, 9, 9),))[0]
    assert [tuple(m.weight.shape) for m in split] == [(8, 3, 5, 5), (32, 8, 1, 1)]
    assert (split[0].stride, split[0].padding, split[1].stride) == ((2, 2), (2, 2), (1, 1))


@pytest.mark.parametrize("options", [
    {"padding": 1}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"padding": "same"},
    {"padding": 1, "padding_mode": "reflect"}, {"bias": False}])
def test_tucker_of_a_low_rank_convolution_changes_nothing(options):
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 32, 3, **options)
    with torch.no_grad():
        core = torch.randn(8, 4, 3, 3)
        layer.weight.copy_(torch.einsum("abhw,oa,ib->oihw", core, torch.randn(32, 8),
                                        torch.randn(16, 4)) / 20)
    inputs = torch.rand(2, 16, 9, 9)
    before = layer(inputs)
    after = Tucker(0.25).apply(nn.Sequential(layer), ["0"], (inputs,))(inputs)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("strategy, layers", [
    (Tucker(0.9), ["3"]), (Svd(0.9), ["7"]), (Svd(0.1), ["9"]), (Tucker(0.2), ["7"]),
    (Svd(0.2), ["0"])])
def test_what_would_not_shrink_is_left(strategy, layers):
    with pytest.raises(StrategyError) as caught:
        strategy.apply(plain(), layers, (EXAMPLE,))
    assert caught.value.reason == "nothing_to_do"


def test_grouped_convolutions_are_left():
    model = nn.Sequential(nn.Conv2d(16, 64, 3, groups=4))
    with pytest.raises(StrategyError) as caught:
        Tucker(0.1).apply(model, ["0"], (torch.rand(1, 16, 5, 5),))
    assert caught.value.reason == "nothing_to_do"


def test_nested_layers_are_replaced_and_the_model_gets_smaller():
    model = Residual()
    before = parameters(model)
    model = Tucker(0.25).apply(model, ["second.0"], (EXAMPLE,))
    model = Svd(0.25).apply(model, ["hidden"], (EXAMPLE,))
    assert isinstance(model.second[0], nn.Sequential) and isinstance(model.hidden, nn.Sequential)
    assert parameters(model) < before
    assert model(EXAMPLE).shape == (2, 10)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.a, self.head = nn.Linear(144, 144), nn.Linear(144, 4)
        self.b = self.a

    def forward(self, x):
        return self.head(torch.relu(self.b(torch.relu(self.a(x.flatten(1))))))


def test_all_names_of_a_layer_are_replaced():
    model = Tied()
    before = parameters(model)
    model = Svd(0.1).apply(model, ["a"], (EXAMPLE,))
    assert model.a is model.b and isinstance(model.a, nn.Sequential)
    assert parameters(model) < before / 2
    assert [name for name, _ in model.named_parameters()][:2] == ["a.0.weight", "a.1.weight"]


def test_a_weight_of_two_layers_is_left():
    model = Tied()
    model.b = nn.Linear(144, 144)
    model.b.weight = model.a.weight
    with pytest.raises(StrategyError, match="its weight is read by addmm in b") as caught:
        Svd(0.1).apply(model, ["a"], (EXAMPLE,))
    assert caught.value.reason == "nothing_to_do"


@pytest.mark.parametrize("convolution, inputs", [
    (nn.Conv1d(16, 32, 3, padding=1), torch.rand(2, 16, 9)),
    (nn.Conv3d(16, 32, 3, stride=2), torch.rand(2, 16, 5, 5, 5))])
def test_tucker_of_convolutions_of_other_numbers_of_axes(convolution, inputs):
    with torch.no_grad():
        core = torch.randn(8, 4, *convolution.kernel_size)
        convolution.weight.copy_(torch.einsum(
            "ab...,oa,ib->oi...", core, torch.randn(32, 8), torch.randn(16, 4)) / 20)
    before = convolution(inputs)
    split = Tucker(0.25).apply(nn.Sequential(convolution), ["0"], (inputs,))
    assert [type(part) for part in split[0]] == [type(convolution)] * 3
    torch.testing.assert_close(split(inputs), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("stack", [False, True])
def test_svd_of_torchs_own_encoder(stack):
    block = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = nn.Sequential(nn.Flatten(1, 2), nn.Linear(12, 32), nn.TransformerEncoder(block, 2)
                          if stack else block, nn.Flatten(), nn.Linear(384, 4)).eval()
    layers = [layer.name for layer in layers_of(model, (EXAMPLE,)) if "2." in layer.name]
    made = Svd(0.25).restructure(model, layers, (EXAMPLE,))
    assert all(name.endswith("out_proj") and "is read by addmm" in reason
               for name, reason in made.left.items())
    assert len(made.left) == (2 if stack else 1)
    with torch.no_grad():
        assert made.model(EXAMPLE).shape == (2, 4), "in evaluation, where torch fuses the layer"
    assert made.model.train()(EXAMPLE).requires_grad


def test_frozen_layers_stay_frozen():
    model = plain().requires_grad_(False)
    assert not any(p.requires_grad for p in Svd(0.1).apply(model, ["7"], (EXAMPLE,)).parameters())
