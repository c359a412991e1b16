"""Magnitude pruning: the smallest weights are zero and stay zero through any training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from strategies.base import Layer, Limits, Strength, Suggester, WeightsStrategy, within
from strategies.weights.clustering import Codebook
from strategies.weights.parametrizing import Promise

ANNEALED_UNTIL = 0.5
REFRESH_STEPS = 8
HOLD = -1.0
"""``wanted`` while the mask stays as it is."""


class MagnitudeMask(nn.Module):
    """Zeroes all but the ``keep_ratio`` weights of largest magnitude of one tensor.

    ``advance`` anneals the kept share from 1 by the cubic schedule of Zhu and Gupta 2017 until
    half of the first training, choosing again from the latent weights, then holds the mask through
    that and every later training. All of that is state, so that a resumed training is the same.
    """

    def __init__(self, keep_ratio: float, weight: Tensor) -> None:
        super().__init__()
        self.keep_ratio = keep_ratio
        self.mask: Tensor
        self.register_buffer("mask", self._largest(weight, keep_ratio))
        self.wanted: Tensor
        self.calls: Tensor
        self.settled: Tensor
        self.register_buffer("wanted", torch.tensor(HOLD, dtype=torch.float64))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("settled", torch.tensor(False))

    def advance(self, progress: float) -> None:
        """Called at each training step with progress 0..1."""
        if bool(self.settled):
            return
        if progress >= ANNEALED_UNTIL:
            self.settled.fill_(True)
            self.wanted.fill_(self.keep_ratio)
            return
        if int(self.calls) % REFRESH_STEPS == 0:
            self.wanted.fill_(self.keep_ratio + (1 - self.keep_ratio) * (
                1 - progress / ANNEALED_UNTIL) ** 3)
        self.calls.add_(1)

    def forward(self, weight: Tensor) -> Tensor:
        wanted = float(self.wanted)
        if wanted != HOLD:
            self.mask = self._largest(weight.detach(), wanted)
            self.wanted.fill_(HOLD)
        return weight * self.mask

    def count(self, size: int) -> int:
        """How many of ``size`` weights are kept in the end."""
        return _count(size, self.keep_ratio)

    def promise(self) -> Promise:
        """See ``strategies.weights.parametrizing.promises``."""
        return Promise(zeros=~self.mask)

    def settle(self, mask: Tensor) -> None:
        """Exactly the weights of ``mask`` are kept from now on, through any training."""
        self.mask.copy_(mask)
        self.wanted.fill_(HOLD)
        self.settled.fill_(True)

    @classmethod
    def _largest(cls, weight: Tensor, keep_ratio: float) -> Tensor:
        flat = weight.detach().abs().flatten()
        mask = torch.zeros_like(flat, dtype=torch.bool)
        mask[flat.topk(_count(flat.numel(), keep_ratio)).indices] = True
        return mask.view_as(weight)


def _count(size: int, keep_ratio: float) -> int:
    return max(1, int(size * keep_ratio))


@dataclass(frozen=True)
class MagnitudePruning(WeightsStrategy):
    """Keep the ``keep_ratio`` weights of largest magnitude in each tensor."""

    name: ClassVar[str] = "magnitude_pruning"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "zeroes the smallest weights; the file stores the others"
    paper: ClassVar[str] = (
        "Han et al. 2015, Learning both Weights and Connections; Zhu and Gupta 2017, To Prune")
    limits_text: ClassVar[str] = "makes files smaller, not inference faster"
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("model", "convolutions", "fully_connected")
    by_layer: ClassVar[Mapping[str, type[int] | type[float]]] = {"keep_ratio": float}
    levels: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)

    keep_ratio: Strength

    def __post_init__(self) -> None:
        within(self.name, "keep_ratio", self.keep_ratio, 1e-5, 1.0)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.keep_ratio", 0.05, 0.5)
        return cls(suggester.suggest_float("keep_ratio", low, high, log=True))

    def changes(self, layer: Layer) -> bool:
        """See ``strategies.base.Strategy``."""
        size = math.prod(layer.weight_shape)
        return _count(size, self._ratio(layer.name)) < size

    def attach(self, model: nn.Module, layers: Sequence[str], number_format: str) -> None:
        """See ``strategies.base.WeightsStrategy``; goes below a codebook that is already there,
        so that masked weights stay exactly zero among its values."""
        for path in layers:
            module = model.get_submodule(path)
            if not parametrize.is_parametrized(module, "weight"):
                mask = MagnitudeMask(self._ratio(path), cast(Tensor, module.weight))
                parametrize.register_parametrization(module, "weight", mask)
                continue
            chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
            latent = cast(Tensor, chain.original)
            cast(nn.ModuleList, chain).insert(0, MagnitudeMask(self._ratio(path), latent))
            for part in cast(nn.ModuleList, chain):
                if isinstance(part, Codebook):
                    part.reserve_zero()

    def _ratio(self, layer: str) -> float:
        return cast(float, self.of_layer(layer).keep_ratio)
