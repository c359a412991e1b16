"""Low rank of fully connected layers by truncated singular value decomposition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, cast

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

NARROW = 16


@dataclass(frozen=True)
class Svd(StructureStrategy):
    """``Linear(m, n)`` becomes ``Linear(m, r), Linear(r, n)``, r = rank_ratio * min(m, n)."""

    name: ClassVar[str] = "svd"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "splits a fully connected layer into two of low rank"
    paper: ClassVar[str] = (
        "Denton et al. 2014, Exploiting Linear Structure Within Convolutional Networks")
    limits_text: ClassVar[str] = "leaves layers narrower than 16 or that would not get smaller"
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("fully_connected",)
    by_layer: ClassVar[Mapping[str, type[int] | type[float]]] = {"rank_ratio": float}
    levels: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.35, 0.5, 1.0)

    rank_ratio: Strength

    def __post_init__(self) -> None:
        within(self.name, "rank_ratio", self.rank_ratio, 1e-4, 1.0)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.rank_ratio", 0.02, 0.5)
        return cls(suggester.suggest_float("rank_ratio", low, high, log=True))

    def apply(self, model: nn.Module, layers: Sequence[str],
              example_inputs: tuple[Tensor, ...]) -> nn.Module:
        """See ``strategies.base.StructureStrategy``."""
        return self.restructure(model, layers, example_inputs).model

    def restructure(self, model: nn.Module, layers: Sequence[str],
                    example_inputs: tuple[Tensor, ...]) -> Restructured:
        """See ``strategies.base.StructureStrategy``."""
        return replace_layers(model, layers, self._factor, self.name, example_inputs)

    def rank(self, inputs: int, outputs: int, layer: str = "") -> int:
        """The rank of ``layer``."""
        ratio = cast(float, self.of_layer(layer).rank_ratio)
        return max(1, round(min(inputs, outputs) * ratio))

    def changes(self, layer: Layer) -> bool:
        """See ``strategies.base.Strategy``."""
        if layer.kind != "fully_connected" or min(layer.weight_shape) < NARROW:
            return False
        outputs, inputs = layer.weight_shape
        return self.rank(inputs, outputs, layer.name) * (inputs + outputs) < inputs * outputs

    def _factor(self, layer: nn.Module, path: str) -> nn.Module | str:
        if not isinstance(layer, nn.Linear):
            return f"it is a {type(layer).__name__}, no fully connected layer"
        if min(layer.weight.shape) < NARROW:
            return f"it is narrower than {NARROW}"
        rank = self.rank(layer.in_features, layer.out_features, path)
        with torch.no_grad():
            u, s, v = torch.linalg.svd(layer.weight.double(), full_matrices=False)
            root = s[:rank].sqrt()
            first = nn.Linear(layer.in_features, rank, bias=False)
            second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
            first.weight.copy_(root[:, None] * v[:rank])
            second.weight.copy_(u[:, :rank] * root)
            if layer.bias is not None:
                second.bias.copy_(layer.bias)
        pair = nn.Sequential(first, second).to(layer.weight.device, layer.weight.dtype)
        return smaller(pair, layer)
