import pytest
import torch
from torch import nn

from fleetfront_testing.networks import EXAMPLE, Residual, plain
from strategies.base import StrategyError
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
