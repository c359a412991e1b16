import pytest
import torch
from torch import nn

from fleetfront_testing.networks import Noise, plain
from strategies.base import Fidelity, StrategyError
from strategies.encoding.export import baked
from strategies.training.finetune import Finetune
from strategies.weights.clustering import Clustering
from strategies.weights.magnitude_pruning import MagnitudePruning
from strategies.weights.parametrizing import advance, weight_scales

ALL = ["0", "3", "7", "9"]
MASK, SHARE = MagnitudePruning(0.2), Clustering(3)
ORDERS = pytest.mark.parametrize("steps", [[MASK, SHARE], [SHARE, MASK]], ids=["mask", "share"])


def built(*steps, int8=False, make=plain):
    model = make()
    for step in steps:
        step.attach(model, ALL, "int8" if int8 else "float32")
    return model


def distinct(weight):
    return len(weight.detach().unique())


def trained(model, batches=20):
    return Finetune(1e-2).train(model, None, Noise(batches), Fidelity("short", 1), None)[0]


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_no_tensor_has_more_values_at_once_or_after_training(bits):
    model = built(Clustering(bits))
    assert all(2 <= distinct(model.get_submodule(p).weight) <= 2**bits for p in ALL)
    before = baked(model)
    model = trained(model)
    assert all(2 <= distinct(model.get_submodule(p).weight) <= 2**bits for p in ALL)
    assert not torch.equal(model[7].weight, before[7].weight)


def test_the_values_are_the_means_of_their_members():
    model = built(Clustering(2))
    latent, shared = model[7].parametrizations.weight.original.detach(), model[7].weight.detach()
    for value in shared.unique():
        assert latent[shared == value].mean() == pytest.approx(float(value), abs=2e-3)


def test_every_weight_takes_the_nearest_value():
    model = built(Clustering(3))
    latent, shared = model[7].parametrizations.weight.original.detach(), model[7].weight.detach()
    table = shared.unique()
    nearest = table[(latent[..., None] - table).abs().argmin(-1)]
    torch.testing.assert_close(shared, nearest)


def test_the_gradient_goes_straight_through():
    shared, free = built(Clustering(3)), built(Clustering(3))
    free = baked(free)
    for parameter in free.parameters():
        parameter.requires_grad_(True)
    inputs = torch.rand(2, 1, 12, 12)
    shared(inputs).square().sum().backward()
    free(inputs).square().sum().backward()
    torch.testing.assert_close(shared[7].parametrizations.weight.original.grad,
                               free[7].weight.grad)


def test_it_is_dense_in_the_first_part_of_training_and_then_in_force():
    model = built(Clustering(2))
    advance(model, 0.0)
    assert torch.equal(model[7].weight, model[7].parametrizations.weight.original)
    advance(model, 1.0)
    assert distinct(model[7].weight) <= 4


def test_the_values_follow_their_members():
    model = built(Clustering(2))
    before = model[7].weight.detach().unique()
    with torch.no_grad():
        model[7].parametrizations.weight.original.mul_(1.5)
    model.train()
    for _ in range(16):
        model(torch.rand(2, 1, 12, 12))
    torch.testing.assert_close(model.eval()[7].weight.detach().unique(), before * 1.5,
                               rtol=0.05, atol=1e-3)


@ORDERS
@pytest.mark.parametrize("int8", [False, True])
def test_a_mask_and_a_codebook_in_either_order(steps, int8):
    model = built(*steps, int8=int8)
    for state in (model, trained(model)):
        scales = weight_scales(state)
        for path in ALL:
            weight = state.get_submodule(path).weight.detach()
            assert 0 < int((weight != 0).sum()) <= weight.numel() * 0.2
            if int8:
                scale = scales[f"{path}.weight"].view(-1, *[1] * (weight.dim() - 1))
                weight = (weight / scale).round()
            assert distinct(weight) <= 8


def test_for_int8_the_values_are_integers_of_a_scale_per_channel():
    model = trained(built(Clustering(4), int8=True))
    scales = weight_scales(model)
    assert set(scales) == {f"{path}.weight" for path in ALL}
    for path in ALL:
        weight = model.get_submodule(path).weight.detach()
        assert scales[f"{path}.weight"].shape == (weight.shape[0],)
        codes = weight / scales[f"{path}.weight"].view(-1, *[1] * (weight.dim() - 1))
        torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
        assert codes.abs().max() <= 127.001
        assert distinct(codes.round()) <= 16


def test_the_scales_are_the_peaks_of_the_channels():
    peaks = plain()[7].weight.detach().abs().amax(1) / 127
    scales = weight_scales(built(Clustering(4), int8=True))["7.weight"]
    assert (scales >= peaks).all() and (scales <= peaks * 1.001).all()
    mantissa = torch.frexp(scales).mantissa * 2**11
    assert torch.equal(mantissa, mantissa.round()), "products with integers are exact"


def test_8_bits_are_the_integers_of_a_scale_per_channel():
    model = trained(built(Clustering(8)))
    for path in ALL:
        weight, scale = model.get_submodule(path).weight.detach(), (
            weight_scales(model)[f"{path}.weight"])
        units = weight / scale.view(-1, *[1] * (weight.dim() - 1))
        assert torch.equal(units, units.round()) and units.abs().max() <= 127


def test_without_int8_there_are_no_scales():
    assert weight_scales(built(Clustering(4))) == {}


def test_a_constant_tensor_stays():
    def constant():
        model = plain()
        for path in ALL:
            nn.init.constant_(model.get_submodule(path).weight, 0.25)
        return model

    model = built(Clustering(2), make=constant)
    torch.testing.assert_close(model[7].weight, torch.full((48, 96), 0.25))


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(StrategyError) as caught:
        Clustering(bits)
    assert caught.value.reason == "bad_parameters"
