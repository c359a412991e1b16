import copy

import pytest
import torch

from fleetfront_testing.networks import Noise, plain
from strategies.base import Fidelity, StrategyError
from strategies.encoding.export import baked
from strategies.training.finetune import Finetune
from strategies.weights.magnitude_pruning import MagnitudePruning
from strategies.weights.parametrizing import advance

ALL = ["0", "3", "7", "9"]


def nonzeros(model, path):
    return int((model.get_submodule(path).weight != 0).sum())


def pruned(keep_ratio=0.1):
    model = plain()
    MagnitudePruning(keep_ratio).attach(model, ALL, number_format="float32")
    return model


def test_it_is_in_force_at_once_and_keeps_the_largest():
    before, model = plain(), pruned()
    for path in ALL:
        old, new = before.get_submodule(path).weight, model.get_submodule(path).weight
        assert nonzeros(model, path) == int(old.numel() * 0.1)
        assert torch.equal(new[new != 0], old[new != 0])
        assert old[new != 0].abs().min() >= old[new == 0].abs().max()


def test_the_share_falls_as_the_cube_from_all_to_the_wanted():
    model, size, shares = pruned(), 96 * 48, []
    for progress in [0.0, 0.125, 0.25, 0.375, 0.5]:
        for _ in range(8):
            advance(model, progress)
            share = nonzeros(model, "7") / size
        shares.append(share)
    wanted = [0.1 + 0.9 * (1 - p) ** 3 for p in (0, 0.25, 0.5, 0.75, 1)]
    assert shares == pytest.approx(wanted, abs=1e-3)


def test_the_mask_is_held_in_the_second_half():
    model = pruned()
    for progress in (0.0, 0.5):
        advance(model, progress)
        model(torch.zeros(1, 1, 12, 12))
    held = model[7].weight != 0
    with torch.no_grad():
        model[7].parametrizations.weight.original.copy_(torch.randn(48, 96))
    advance(model, 0.8)
    assert torch.equal(model[7].weight != 0, held)


def test_the_zeros_outlast_training_while_the_rest_learns():
    model = pruned()
    before = baked(model)
    trained, _ = Finetune(1e-2).train(model, None, Noise(20), Fidelity("short", 1), None)
    for path in ALL:
        size = trained.get_submodule(path).weight.numel()
        assert 0 < nonzeros(trained, path) <= size * 0.1
    assert not torch.equal(trained[7].weight, before[7].weight)


def test_a_masked_weight_has_no_gradient():
    model = pruned()
    model(torch.rand(2, 1, 12, 12)).sum().backward()
    gradient = model[7].parametrizations.weight.original.grad
    assert (gradient[model[7].weight == 0] == 0).all()


def test_the_mask_is_state():
    model = pruned()
    Finetune(1e-2).train(model, None, Noise(20), Fidelity("short", 1), None)
    fresh = pruned()
    fresh.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(fresh[7].weight, model[7].weight)


@pytest.mark.parametrize("keep_ratio", [0.0, -0.1, 1.5])
def test_shares_out_of_range_are_refused(keep_ratio):
    with pytest.raises(StrategyError) as caught:
        MagnitudePruning(keep_ratio)
    assert caught.value.reason == "bad_parameters"
