"""A kernel of few taps and inputs has a lower rank than the ratio of its outputs may ask for."""

import pytest
import torch
from torch import nn

from fleetfront_testing.networks import EXAMPLE, plain
from strategies.base import StrategyError
from strategies.structure.tucker import Tucker


def test_a_first_layer_of_few_taps_is_left_without_a_warning():
    with pytest.raises(StrategyError) as caught:
        Tucker(0.8).apply(plain(), ["0"], (EXAMPLE,))
    assert caught.value.reason == "nothing_to_do"


def test_the_outputs_have_no_higher_rank_than_the_inputs_between():
    model = nn.Sequential(nn.Conv2d(8, 256, 1))
    split = Tucker(0.05).apply(model, ["0"], (torch.rand(1, 8, 5, 5),))[0]
    assert [tuple(m.weight.shape) for m in split] == [(1, 8, 1, 1), (1, 1, 1, 1), (256, 1, 1, 1)]
