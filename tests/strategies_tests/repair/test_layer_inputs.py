"""Inputs as columns: their product with the rows of the weight is what the layer computes."""

import pytest
import torch
from torch import nn

from strategies.repair.layer_inputs import Geometry, moments_of

LAYERS = {
    "linear": (nn.Linear(7, 5), (4, 7)),
    "tokens": (nn.Linear(7, 5), (4, 3, 7)),
    "wide": (nn.Linear(4100, 3), (2, 4100)),
    "plain": (nn.Conv2d(3, 6, 3), (2, 3, 8, 9)),
    "strided": (nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0)), (2, 4, 8, 9)),
    "dilated": (nn.Conv2d(3, 6, 3, dilation=2, padding="same"), (2, 3, 8, 9)),
    "reflecting": (nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), (2, 3, 8, 9)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2), (2, 6, 5, 5)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4), (2, 4, 5, 5)),
    "deep": (nn.Conv2d(512, 2, 3), (1, 512, 4, 4)),
    "1d": (nn.Conv1d(3, 4, 5, stride=2, padding=2), (2, 3, 11)),
    "3d": (nn.Conv3d(2, 4, 2), (2, 2, 4, 5, 3)),
    "no batch": (nn.Conv2d(3, 6, 3), (3, 8, 9)),
}
EACH = pytest.mark.parametrize("layer", LAYERS)


@EACH
def test_columns_and_rows_give_the_outputs(layer):
    module, shape = LAYERS[layer]
    geometry = Geometry.of(module)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight = module.weight.detach()
    given = geometry.columns(inputs) @ geometry.rows(weight).mT
    if given.shape[0] != geometry.groups:  # the parts of wide filters add up
        given = given.sum(0, keepdim=True)
    outputs = module(inputs).detach()
    if isinstance(module, nn.Linear):
        wanted = outputs - module.bias.detach()
    else:
        outputs = outputs if outputs.dim() == len(geometry.kernel) + 2 else outputs[None]
        wanted = outputs.movedim(1, -1) - module.bias.detach()
    flat = given.transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat, wanted.reshape(flat.shape), rtol=1e-4, atol=1e-4)


@EACH
def test_rows_come_back(layer):
    weight = LAYERS[layer][0].weight.detach()
    geometry = Geometry.of(LAYERS[layer][0])
    assert torch.equal(geometry.weight(geometry.rows(weight), weight), weight)


def test_the_rows_of_a_transposed_convolution():
    module = nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False)
    geometry = Geometry.of(module)
    inputs = torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    given = geometry.columns(inputs) @ geometry.rows(module.weight.detach()).mT
    torch.testing.assert_close(given.reshape(1, 6, 3, 3), module(inputs).detach())
    weight = module.weight.detach()
    assert torch.equal(geometry.weight(geometry.rows(weight), weight), weight)


def test_few_positions_meet_every_place():
    inputs = torch.arange(64.0).expand(64, 1, 64).reshape(64, 1, 8, 8)
    columns = Geometry.of(nn.Conv2d(1, 1, 1)).columns(inputs, most=512)
    assert 256 <= columns.shape[1] <= 512
    assert len(columns.unique()) == 64


def test_moments_are_accumulated_over_batches():
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    inputs = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    found = moments_of(model, ["2", "0"], (inputs,))
    hidden = torch.relu(model[0](inputs)).detach()
    for name, seen in (("0", inputs), ("2", hidden)):
        torch.testing.assert_close(found[name].second[0], seen.T @ seen / 200)
        torch.testing.assert_close(found[name].mean[0], seen.mean(0))
        torch.testing.assert_close(found[name].covariance[0], torch.cov(seen.T, correction=0),
                                   atol=1e-5, rtol=1e-4)


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match="LSTM"):
        Geometry.of(nn.LSTM(2, 2))
