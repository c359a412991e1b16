"""Low rank of fully connected layers by truncated singular value decomposition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from strategies.base import Layer, Limits, StructureStrategy, Suggester, within
from strategies.structure.replacing import replace_layers, weights_of

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

    rank_ratio: float

    def __post_init__(self) -> None:
        within(self.name, "rank_ratio", self.rank_ratio, 1e-4, 1.0)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.rank_ratio", 0.02, 0.5)
        return cls(suggester.suggest_float("rank_ratio", low, high, log=True))

    def apply(self, model: nn.Module, layers: Sequence[str],
              example_inputs: tuple[Tensor, ...]) -> nn.Module:
        """See ``strategies.base.StructureStrategy``."""
        return replace_layers(model, layers, self._factor, self.name)

    def _factor(self, layer: nn.Module) -> nn.Module | None:
        if not isinstance(layer, nn.Linear) or min(layer.weight.shape) < NARROW:
            return None
        rank = max(1, round(min(layer.in_features, layer.out_features) * self.rank_ratio))
        with torch.no_grad():
            u, s, v = torch.linalg.svd(layer.weight.double(), full_matrices=False)
            root = s[:rank].sqrt()
            first = nn.Linear(layer.in_features, rank, bias=False)
            second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
            first.weight.copy_(root[:, None] * v[:rank])
            second.weight.copy_(u[:, :rank] * root)
            if layer.bias is not None:
                second.bias.copy_(layer.bias)
        pair = nn.Sequential(first, second)
        return pair if weights_of(pair) < weights_of(layer) else None
