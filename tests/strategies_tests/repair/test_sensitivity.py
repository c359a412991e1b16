import itertools
import math

import pytest
import torch
from torch import nn

from strategies.base import StrategyError
from strategies.repair.sensitivity import allocate, filled, loss_of_each

INPUTS = torch.randn(80, 6, generator=torch.Generator().manual_seed(0))
STRENGTHS = (2, 3, 4, 6, 8)


def two_paths():
    """The outputs are nearly those of "strong"."""
    torch.manual_seed(1)

    class Paths(nn.Module):
        def __init__(self):
            super().__init__()
            self.strong, self.weak = nn.Linear(6, 80), nn.Linear(6, 80)

        def forward(self, x):
            return self.strong(x) + 0.01 * self.weak(x)

    return Paths().eval()


def test_what_decides_the_outputs_loses_more_and_bits_help():
    model = two_paths()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scan = loss_of_each(model, ["strong", "weak"], STRENGTHS, (INPUTS,))
    assert scan.samples == 80 and scan.coarser is None
    for bits in STRENGTHS[:-1]:
        assert scan.losses["strong"][bits] > 100 * scan.losses["weak"][bits]
    for found in scan.losses.values():
        assert list(found) == list(STRENGTHS)
        assert found[2] > 3 * found[4] > 9 * found[8]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_any_compression_can_be_scanned():
    def zeroed(model, layer, share):
        weight = model.get_submodule(layer).weight.data
        weight[:, : int(share * 6)] = 0

    scan = loss_of_each(two_paths(), ["strong"], (0.0, 0.5, 1.0), (INPUTS,), zeroed)
    assert scan.losses["strong"][0.0] == 0
    assert scan.losses["strong"][1.0] == pytest.approx(1, rel=0.2)


def test_a_scan_without_time_is_coarser_and_says_so():
    inputs = INPUTS.repeat(2, 1)
    scan = loss_of_each(two_paths(), ["strong", "weak"], STRENGTHS, (inputs,), deadline_s=0)
    assert scan.samples == 16
    assert scan.coarser == "16 samples instead of 128 and 6 of 10 losses interpolated"
    found = [scan.losses["strong"][bits] for bits in STRENGTHS]
    assert found == sorted(found, reverse=True)


def test_samples_are_needed():
    with pytest.raises(StrategyError) as caught:
        loss_of_each(two_paths(), ["strong"], STRENGTHS, (INPUTS[:0],))
    assert caught.value.reason == "no_calibration"


def test_losses_between_are_geometric():
    assert filled({2: 1.0, 6: 1e-4}, (2, 4, 6, 8)) == pytest.approx(
        {2: 1.0, 4: 1e-2, 6: 1e-4, 8: 1e-4})


def layers(seed, count=3):
    source = torch.Generator().manual_seed(seed)
    losses, costs = {}, {}
    for name in "abcdef"[:count]:
        size = int(torch.randint(1, 50, (), generator=source))
        scale = float(torch.rand((), generator=source))
        losses[name] = {b: scale * math.exp(-1.2 * b) for b in STRENGTHS}
        costs[name] = {b: b * size for b in STRENGTHS}
    return losses, costs


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.3, 0.45, 0.7, 1.0])
def test_an_allocation_is_nearly_the_best(seed, share):
    losses, costs = layers(seed)
    budget = share * sum(max(cost.values()) for cost in costs.values())
    found = allocate(losses, costs, budget)
    spent = sum(costs[name][strength] for name, strength in found.items())
    assert spent <= budget
    best = min(sum(losses[n][s] for n, s in zip("abc", choice, strict=True))
               for choice in itertools.product(STRENGTHS, repeat=3)
               if sum(costs[n][s] for n, s in zip("abc", choice, strict=True)) <= budget)
    assert sum(losses[name][strength] for name, strength in found.items()) <= 1.5 * best


def test_a_step_may_jump_over_a_level_that_gains_nothing():
    losses = {"a": {2: 1.0, 3: 0.999, 4: 0.0}, "b": {2: 0.1, 3: 0.05, 4: 0.0}}
    costs = {name: {2: 2.0, 3: 3.0, 4: 4.0} for name in losses}
    assert allocate(losses, costs, 6) == {"a": 4, "b": 2}


def test_a_costlier_level_that_loses_more_is_never_taken():
    losses = {"a": {2: 1.0, 3: 0.1, 4: 0.2, 6: 0.1}}
    assert allocate(losses, {"a": {2: 2, 3: 3, 4: 4, 6: 6}}, 100) == {"a": 3}


def test_where_nothing_fits_the_lowest_costs_stand():
    losses, costs = layers(0)
    assert set(allocate(losses, costs, 0).values()) == {2}
