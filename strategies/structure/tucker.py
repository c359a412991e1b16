"""Low rank of convolutions: Tucker-2 over input and output channels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from strategies.base import (
    Layer,
    Limits,
    Restructured,
    Strength,
    StructureStrategy,
    Suggester,
    within,
)
from strategies.structure.replacing import replace_layers, smaller

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
        "leaves grouped and transposed convolutions and those that would not get smaller")
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("convolutions",)
    by_layer: ClassVar[Mapping[str, type[int] | type[float]]] = {"rank_ratio": float}
    levels: ClassVar[tuple[float, ...]] = (0.15, 0.25, 0.4, 0.6, 1.0)

    rank_ratio: Strength

    def __post_init__(self) -> None:
        within(self.name, "rank_ratio", self.rank_ratio, 1e-4, 1.0)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.rank_ratio", 0.15, 0.6)
        return cls(suggester.suggest_float("rank_ratio", low, high, log=True))

    def apply(self, model: nn.Module, layers: Sequence[str],
              example_inputs: tuple[Tensor, ...]) -> nn.Module:
        """See ``strategies.base.StructureStrategy``."""
        return self.restructure(model, layers, example_inputs).model

    def restructure(self, model: nn.Module, layers: Sequence[str],
                    example_inputs: tuple[Tensor, ...]) -> Restructured:
        """See ``strategies.base.StructureStrategy``."""
        return replace_layers(model, layers, self._factor, self.name, example_inputs)

    def ranks(self, outputs: int, inputs: int, taps: int, layer: str = "") -> tuple[int, int]:
        """(outputs, inputs) between which the kernel of ``layer``, of ``taps`` places, works."""
        ratio = cast(float, self.of_layer(layer).rank_ratio)
        left = (inputs if inputs < FEWEST_INPUTS
                else _rank(inputs, ratio, outputs * taps))
        return _rank(outputs, ratio, left * taps), left

    def changes(self, layer: Layer) -> bool:
        """See ``strategies.base.Strategy``."""
        if layer.kind != "convolution" or "depthwise" in layer.groups:
            return False
        outputs, inputs, *kernel = layer.weight_shape
        taps = math.prod(kernel)
        between, left = self.ranks(outputs, inputs, taps, layer.name)
        first = inputs * left if inputs >= FEWEST_INPUTS else 0
        return first + left * between * taps + between * outputs < inputs * outputs * taps

    def _factor(self, layer: nn.Module, path: str) -> nn.Module | str:
        import tensorly  # with scipy.optimize: 0.3 s, in processes that split no convolution too
        from tensorly.decomposition import partial_tucker

        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return f"it is a {type(layer).__name__}, no convolution"
        if layer.groups != 1:
            return f"its channels are in {layer.groups} groups"
        convolution: Any = next(cls for cls in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
                                if isinstance(layer, cls))
        whole = layer.in_channels < FEWEST_INPUTS
        outputs, inputs = self.ranks(
            layer.out_channels, layer.in_channels, math.prod(layer.kernel_size), path)
        weight = layer.weight.detach().double().cpu().numpy()
        modes, ranks = ([0], [outputs]) if whole else ([0, 1], [outputs, inputs])
        with tensorly.backend_context("numpy"):
            (core, factors), _ = partial_tucker(weight, rank=ranks, modes=modes, init="svd",
                                                random_state=0)
        middle = convolution(core.shape[1], outputs, layer.kernel_size, layer.stride,
                             layer.padding, layer.dilation, bias=False,
                             padding_mode=layer.padding_mode)
        last = convolution(outputs, layer.out_channels, 1, bias=layer.bias is not None)
        parts: list[nn.Module] = [middle, last]
        with torch.no_grad():
            middle.weight.copy_(torch.from_numpy(core.copy()))
            _fill(last, factors[0])
            if layer.bias is not None:
                last.bias.copy_(layer.bias)
            if not whole:
                parts.insert(0, convolution(layer.in_channels, inputs, 1, bias=False))
                _fill(parts[0], factors[1].T)
        split = nn.Sequential(*parts).to(layer.weight.device, layer.weight.dtype)
        return smaller(split, layer)


def _fill(pointwise: nn.Module, matrix: np.ndarray) -> None:
    weight = cast(Tensor, pointwise.weight)
    weight.copy_(torch.from_numpy(matrix.copy()).view_as(weight))


def _rank(channels: int, ratio: float, others: int) -> int:
    """The wanted rank of a mode; a matrix with ``others`` columns has no higher one."""
    return min(max(1, round(channels * ratio)), others)
