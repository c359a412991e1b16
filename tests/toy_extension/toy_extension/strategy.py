"""A weights strategy: weights rounded to a few levels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from strategies.base import Layer, Limits, Suggester, WeightsStrategy, within
from strategies.weights.parametrizing import straight_through


class Levels(nn.Module):
    """Rounds to multiples of the largest weight divided by ``levels``."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, weight: Tensor) -> Tensor:
        step = (weight.detach().abs().max() / self.levels).clamp_min(1e-12)
        return straight_through(weight, torch.round(weight.detach() / step) * step)


@dataclass(frozen=True)
class Rounding(WeightsStrategy):
    """At most ``2 * levels + 1`` values per tensor."""

    name: ClassVar[str] = "toy_rounding"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "rounds weights to a few levels"
    paper: ClassVar[str] = "Nobody 2026, A Toy"
    limits_text: ClassVar[str] = "a toy"
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("model",)

    levels: int

    def __post_init__(self) -> None:
        within(self.name, "levels", self.levels, 1, 127)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.levels", 2, 30)
        return cls(suggester.suggest_int("levels", math.ceil(low), math.floor(high)))

    def attach(self, model: nn.Module, layers: Sequence[str], number_format: str) -> None:
        for path in layers:
            parametrize.register_parametrization(
                model.get_submodule(path), "weight", Levels(self.levels))
