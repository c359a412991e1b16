from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from strategies.base import StrategyError
from strategies.signature import input_names, named_outputs

ONE, TWO = torch.ones(2, 3), torch.zeros(2)
Pair = namedtuple("Pair", "boxes scores")


@dataclass
class Record:
    logits: Tensor
    loss: Tensor | None = None


@pytest.mark.parametrize(("returned", "names"), [
    (ONE, ["output"]),
    ({"logits": ONE, "aux": TWO}, ["logits", "aux"]),
    (OrderedDict(b=ONE, a=TWO), ["b", "a"]),
    (Pair(ONE, TWO), ["boxes", "scores"]),
    (Record(ONE), ["logits"]),
    ((ONE, TWO), ["output_0", "output_1"]),
    ([ONE, None, TWO], ["output_0", "output_2"]),
    ({"levels": [ONE, TWO], "out": {"mask": ONE}}, ["levels_0", "levels_1", "out.mask"]),
    ({0: ONE, 1: TWO}, ["output_0", "output_1"]),
])
def test_what_a_model_returns_has_names(returned, names):
    assert list(named_outputs(returned)) == names


def test_given_names_replace_them_in_order():
    assert named_outputs((ONE, TWO), ("classes", "depth")) == {"classes": ONE, "depth": TWO}


@pytest.mark.parametrize(("returned", "names", "words"), [
    ((ONE, "text"), (), "returns a str as 'output_1'; its outputs must be tensors"),
    (7, (), "returns a int; its outputs must be tensors"),
    (None, (), "returns None without a tensor"),
    ({}, (), "returns a dict without a tensor"),
    ((ONE, TWO), ("a",), r"returns 2 tensors \(output_0, output_1\), 1 names are given \(a\)"),
    ((ONE, TWO), ("a", "a"), "Several outputs of the model are named 'a'"),
])
def test_what_has_no_names_is_refused_in_words(returned, names, words):
    with pytest.raises(StrategyError, match=words) as caught:
        named_outputs(returned, names)
    assert caught.value.reason == "unsupported_graph"


class Several(nn.Module):
    def forward(self, image, tokens, *masks, scale=1.0):
        return image


def test_inputs_have_the_names_of_forwards_parameters():
    assert input_names(nn.Sequential(), 1) == ("input",)
    assert input_names(Several(), 2) == ("image", "tokens")
    assert input_names(Several(), 4) == ("image", "tokens", "masks_0", "masks_1")
    with pytest.raises(StrategyError, match=r"Linear\.forward takes 1 inputs \(input\), a sample "
                                            "has 2"):
        input_names(nn.Linear(2, 2), 2)
