"""Batches wait before a layer, see what was changed meanwhile, and go on."""

import threading

import pytest
import torch
from torch import nn

from strategies.repair.lockstep import Lockstep

BATCHES = [(torch.full((1, 2), float(value)),) for value in (1, 2, 3)]


def model():
    made = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False),
                         nn.Linear(2, 2, bias=False))
    for layer in made:
        nn.init.eye_(layer.weight)
    return made


def test_a_change_is_seen_by_what_waits():
    net = model()
    with Lockstep(net, ["1", "2"], BATCHES) as runs:
        assert [float(runs.inputs_of("1", i)[0, 0]) for i in (0, 1)] == [1, 2]
        with torch.no_grad():
            net[1].weight.mul_(10)
        assert [float(runs.inputs_of("2", i)[0, 0]) for i in (0, 1, 2)] == [10, 20, 30]
        assert runs.inputs_of("1", 0) is None, "the run has ended"
        assert runs.inputs_of("2", 0) is None


def test_nothing_is_left_behind():
    net, before = model().train(), threading.active_count()
    with Lockstep(net, ["1"], BATCHES) as runs:
        runs.inputs_of("1", 0)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert net.training and not net[1]._forward_pre_hooks


class Failing(nn.Module):
    def forward(self, x):
        raise ValueError("no such thing")


def test_an_error_is_raised_where_it_is_waited_for():
    net = nn.Sequential(nn.Linear(2, 2), Failing(), nn.Linear(2, 2))
    with Lockstep(net, ["0", "2"], BATCHES) as runs:
        assert runs.inputs_of("0", 0) is not None
        with pytest.raises(ValueError, match="no such thing"):
            runs.inputs_of("2", 0)
