"""Folded BatchNorm computes the same; what it may not be folded into stays as it is."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from fleetfront_testing.networks import EXAMPLE, Residual
from strategies.base import StrategyError
from strategies.repair.batchnorm import fold_batchnorm
from strategies.weights.clustering import Clustering

IMAGES = (torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1)),)


def norms(model):
    return [name for name, module in model.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def used(model):
    """The model with statistics and weights of its norms that are not the initial ones."""
    torch.manual_seed(7)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.2, 3)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model.eval()


def assert_same(folded, model, inputs):
    with torch.no_grad():
        wanted, found = model(*inputs), folded(*inputs)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


@pytest.mark.parametrize("make, inputs", [
    (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)), IMAGES),
    (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8, affine=False)), IMAGES),
    (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="reflect"),
                           nn.BatchNorm2d(4, eps=0.1)), IMAGES),
    (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2), nn.BatchNorm2d(6)), IMAGES),
    (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6)),
     IMAGES),
    (lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.BatchNorm1d(5)), IMAGES),
    (lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)), IMAGES),
    (lambda: nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Conv3d(4, 6, (1, 3, 3)),
                           nn.BatchNorm3d(6)), IMAGES),
    (lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)),
     IMAGES),
], ids=["2d", "grouped", "depthwise", "transposed", "transposed_grouped", "linear", "1d", "3d",
        "weight_norm"])
def test_a_norm_is_folded_into_the_layer_before_it(make, inputs):
    model = used(make())
    before = copy.deepcopy(model.state_dict())
    folded = fold_batchnorm(model, inputs)
    assert norms(folded) == []
    assert isinstance(folded[-1], nn.Identity)
    assert_same(folded, model, inputs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_layers_keep_their_names():
    model = Residual()
    folded = fold_batchnorm(model, (EXAMPLE,))
    assert norms(folded) == []
    assert [name for name, _ in folded.named_modules()] == [
        name for name, _ in model.named_modules()]
    assert_same(folded, model, (EXAMPLE,))
    assert not folded.training


class Untraceable(nn.Module):
    """Control flow that depends on values, and keyword arguments: nothing for ``torch.fx``."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.a, self.n = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.m = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        for _ in range(int(x.abs().max() > 0) + 1):
            x = x.relu_()
        x = torch.relu_(self.n(self.a(x)))
        return x + self.m(input=self.b(x))


def test_a_model_that_cannot_be_traced_symbolically():
    model = used(Untraceable())
    with pytest.raises(Exception):  # noqa: B017
        torch.fx.symbolic_trace(model)
    folded = fold_batchnorm(model, IMAGES)
    assert norms(folded) == []
    inputs = (IMAGES[0].clone(),)
    assert_same(folded, model, inputs)
    assert bool((IMAGES[0] < 0).any()), "folding let the model write into its inputs"


class Wired(nn.Module):
    """One convolution, one norm, and a wiring of them."""

    def __init__(self, wiring, norm=None):
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), norm or nn.BatchNorm2d(4)
        self.wiring = wiring

    def forward(self, x):
        return self.wiring(x, self.conv, self.norm)


def written_into(x, conv, norm):
    y = conv(x)
    y += 1
    return norm(y)


@pytest.mark.parametrize("wiring", [
    lambda x, conv, norm: norm(conv(conv(x))),
    lambda x, conv, norm: conv(norm(x)),
    lambda x, conv, norm: (lambda y: norm(y) + y)(conv(x)),
    lambda x, conv, norm: (lambda y: norm(y) + y.mean((2, 3), keepdim=True))(conv(x)),
    lambda x, conv, norm: norm(conv(x).relu()),
    lambda x, conv, norm: norm(conv(x)) + norm(x),
    lambda x, conv, norm: norm(conv(x)) + conv.weight.sum(),
    lambda x, conv, norm: norm(conv(x).transpose(2, 3)),
    lambda x, conv, norm: norm(conv(x)) + norm.running_var.sum(),
    written_into,
], ids=["conv_twice", "norm_first", "shared", "shared_view", "relu_between", "norm_twice",
        "weight_read", "view_between", "statistics_read", "written_into"])
def test_other_wirings_are_left_as_they_are(wiring):
    model = used(Wired(wiring))
    folded = fold_batchnorm(model, IMAGES)
    assert norms(folded) == ["norm"]
    assert_same(folded, model, IMAGES)


def test_an_output_of_the_model_is_left():
    model = used(Wired(lambda x, conv, norm: (lambda y: (norm(y), y))(conv(x))))
    assert norms(fold_batchnorm(model, IMAGES)) == ["norm"]


class Scaled(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


@pytest.mark.parametrize("norm", [
    nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), Scaled(4),
    nn.BatchNorm2d(4, track_running_stats=False)],
    ids=["group", "instance", "own_forward", "no_statistics"])
def test_other_norms_are_left(norm):
    model = used(Wired(lambda x, conv, norm: norm(conv(x)), norm))
    folded = fold_batchnorm(model, IMAGES)
    assert type(folded.norm) is type(norm)
    assert_same(folded, model, IMAGES)


def test_a_norm_over_another_axis_than_the_outputs_is_left():
    model = used(nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)))
    assert norms(fold_batchnorm(model, (torch.randn(2, 4, 8),))) == ["1"]


def test_a_weight_of_two_layers_is_left():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
    model[2].weight = model[0].weight
    assert norms(fold_batchnorm(used(model), IMAGES)) == ["1"]


def test_weights_that_a_recipe_constrains_are_refused():
    model = used(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)))
    Clustering(2).attach(model, ["0"], "float32")
    with pytest.raises(StrategyError, match="Codebook already constrains") as caught:
        fold_batchnorm(model, IMAGES)
    assert caught.value.reason == "impossible_order"


def test_frozen_weights_stay_frozen():
    model = used(nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)))
    model[0].requires_grad_(False)
    assert not any(p.requires_grad for p in fold_batchnorm(model, IMAGES)[0].parameters())


def test_a_table_of_weights_is_a_table_after_folding():
    """Folded first, sixteen values stay sixteen."""
    folded = fold_batchnorm(Residual(), (EXAMPLE,))
    Clustering(4).attach(folded, ["second.0"], "float32")
    assert parametrize.is_parametrized(folded.second[0])
    assert len(fold_batchnorm(folded, (EXAMPLE,)).second[0].weight.unique()) <= 16


def test_a_model_that_does_not_run_is_said():
    with pytest.raises(StrategyError, match="cannot be run") as caught:
        fold_batchnorm(nn.Linear(3, 3), (torch.rand(1, 4),))
    assert caught.value.reason == "unsupported_graph"
