"""All that a parametrization knows is in its state: no training differs after a restart."""

import copy

import pytest
import torch
from torch import nn

from fleetfront_testing.networks import Noise, equal_states, plain
from strategies.base import Fidelity
from strategies.encoding.export import baked
from strategies.training.finetune import Finetune
from strategies.weights.clustering import Clustering
from strategies.weights.magnitude_pruning import MagnitudePruning
from strategies.weights.parametrizing import weight_scales

MASK, SHARE = MagnitudePruning(0.2), Clustering(2)
SHORT, FULL = Fidelity("short", 1), Fidelity("full", 2)


def built(steps, int8):
    model = plain()
    for step in steps:
        step.attach(model, ["3", "7"], "int8" if int8 else "float32")
    return model


@pytest.mark.parametrize("batches", [1, 3, 5])
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("steps", [[MASK], [SHARE], [MASK, SHARE], [SHARE, MASK]],
                         ids=["mask", "share", "mask-share", "share-mask"])
def test_a_restart_between_fidelities_changes_nothing(steps, int8, batches):
    train = Finetune(1e-3).train
    model, state = train(built(steps, int8), None, Noise(batches), SHORT, None)
    fresh = built(steps, int8)
    fresh.load_state_dict(copy.deepcopy(model.state_dict()))
    kept = copy.deepcopy(state)
    assert torch.equal(baked(fresh)[7].weight, baked(model)[7].weight)
    model, _ = train(model, None, Noise(batches), FULL, state)
    fresh, _ = train(fresh, None, Noise(batches), FULL, kept)
    assert equal_states(model, fresh)


def test_a_second_training_keeps_what_the_first_settled():
    train = Finetune(1e-3).train
    model, _ = train(built([MASK], False), None, Noise(20), SHORT, None)
    SHARE.attach(model, ["3", "7"], "float32")
    held, seen = model[7].weight != 0, []
    model[7].register_forward_hook(lambda module, _, __: seen.append(module.weight != 0))
    train(model, None, Noise(20), SHORT, None)
    assert all(torch.equal(zeros, held) for zeros in seen[:5])
    assert int((model[7].weight != 0).sum()) <= int(held.sum())


def test_a_layer_of_one_channel_has_its_scale():
    model = nn.Sequential(nn.Conv2d(3, 1, 3))
    SHARE.attach(model, ["0"], "int8")
    assert weight_scales(model)["0.weight"].shape == (1,)
