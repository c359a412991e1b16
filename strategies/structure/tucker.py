"""Low rank of convolutions: Tucker-2 over input and output channels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from strategies.base import Layer, Limits, StructureStrategy, Suggester, within
from strategies.structure.replacing import replace_layers, weights_of

FEWEST_INPUTS = 4


@dataclass(frozen=True)
class Tucker(StructureStrategy):
    """A convolution becomes 1x1, kxk, 1x1 with ``rank_ratio`` of its channels between.

    Inputs of fewer than four channels keep their mode: kxk, 1x1.
    """

    name: ClassVar[str] = "tucker"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "splits a convolution into 1x1, kxk, 1x1 of low rank"
    paper: ClassVar[str] = "Kim et al. 2016, Compression of Deep CNNs for Fast and Low Power"
    limits_text: ClassVar[str] = (
        "leaves grouped convolutions and those that would not get smaller")
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("convolutions",)

    rank_ratio: float

    def __post_init__(self) -> None:
        within(self.name, "rank_ratio", self.rank_ratio, 1e-4, 1.0)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.rank_ratio", 0.15, 0.6)
        return cls(suggester.suggest_float("rank_ratio", low, high, log=True))

    def apply(self, model: nn.Module, layers: Sequence[str],
              example_inputs: tuple[Tensor, ...]) -> nn.Module:
        """See ``strategies.base.StructureStrategy``."""
        return replace_layers(model, layers, self._factor, self.name)

    def _factor(self, layer: nn.Module) -> nn.Module | None:
        import tensorly  # with scipy.optimize: 0.3 s, in processes that split no convolution too
        from tensorly.decomposition import partial_tucker

        if not isinstance(layer, nn.Conv2d) or layer.groups != 1:
            return None
        whole = layer.in_channels < FEWEST_INPUTS
        taps = math.prod(layer.kernel_size)
        inputs = _rank(layer.in_channels, self.rank_ratio, layer.out_channels * taps)
        outputs = _rank(layer.out_channels, self.rank_ratio,
                        (layer.in_channels if whole else inputs) * taps)
        weight = layer.weight.detach().double().numpy()
        modes, ranks = ([0], [outputs]) if whole else ([0, 1], [outputs, inputs])
        with tensorly.backend_context("numpy"):
            (core, factors), _ = partial_tucker(weight, rank=ranks, modes=modes, init="svd",
                                                random_state=0)
        middle = nn.Conv2d(core.shape[1], outputs, layer.kernel_size, layer.stride, layer.padding,  # type: ignore[arg-type]
                           layer.dilation, bias=False, padding_mode=layer.padding_mode)  # type: ignore[arg-type]
        last = nn.Conv2d(outputs, layer.out_channels, 1, bias=layer.bias is not None)
        parts: list[nn.Module] = [middle, last]
        with torch.no_grad():
            middle.weight.copy_(torch.from_numpy(core.copy()))
            last.weight.copy_(torch.from_numpy(factors[0].copy())[:, :, None, None])
            if layer.bias is not None and last.bias is not None:
                last.bias.copy_(layer.bias)
            if not whole:
                first = nn.Conv2d(layer.in_channels, inputs, 1, bias=False)
                first.weight.copy_(torch.from_numpy(factors[1].T.copy())[:, :, None, None])
                parts.insert(0, first)
        split = nn.Sequential(*parts)
        return split if weights_of(split) < weights_of(layer) else None


def _rank(channels: int, ratio: float, others: int) -> int:
    """The wanted rank of a mode; a matrix with ``others`` columns has no higher one."""
    return min(max(1, round(channels * ratio)), others)
