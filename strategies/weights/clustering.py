"""Weight sharing: each tensor holds at most ``2**bits`` distinct values, zero among them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from strategies.base import Layer, Limits, Suggester, WeightsStrategy, within
from strategies.number_formats import INT8
from strategies.weights.parametrizing import straight_through

DENSE_UNTIL = 0.5
LLOYD_STEPS = 25
MEAN_EVERY = 4
REFIT = -1
"""Value of ``calls`` while the centroids wait to be fitted again."""


class Codebook(nn.Module):
    """Each weight is its nearest centroid; the gradient goes straight through to the latent one.

    Centroids start evenly between the extremes (Han et al. 2016) and follow the mean of their
    members while training. With ``scale`` (one per output channel) the centroids are integers of
    ``weight / scale`` within -127..127, so that int8 with these scales keeps the table.
    """

    def __init__(self, values: int, weight: Tensor, int8: bool) -> None:
        super().__init__()
        self.values, self.int8 = values, int8
        shape = (-1, *[1] * (weight.dim() - 1))
        peak = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-12)
        self.centroids: Tensor
        self.active: Tensor
        self.with_zero: Tensor
        self.scale: Tensor
        self.calls: Tensor
        self.settled: Tensor
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("settled", torch.tensor(False))
        self.register_buffer("scale", (peak / 127).view(shape) if int8 else torch.ones(1))
        self.register_buffer("centroids", torch.zeros(values))
        self.register_buffer("active", torch.tensor(True))
        self.register_buffer("with_zero", (weight.detach() == 0).any())
        self._fit(weight.detach())

    def advance(self, progress: float) -> None:
        """Dense until half of the first training, then in force through every later one."""
        if bool(self.settled):
            return
        if progress < DENSE_UNTIL:
            self.active.fill_(False)
            return
        if not bool(self.active):
            self.active.fill_(True)
            self.calls.fill_(REFIT)
        self.settled.fill_(True)

    def reserve_zero(self) -> None:
        """One of the values is zero from now on: a mask was put below."""
        self.with_zero.fill_(True)
        self.calls.fill_(REFIT)

    def grid_scale(self) -> Tensor | None:
        """See ``strategies.weights.parametrizing.weight_scales``."""
        return self.scale.flatten() if self.int8 else None

    def forward(self, weight: Tensor) -> Tensor:
        if not bool(self.active):
            return weight
        latent = weight.detach()
        if int(self.calls) == REFIT:
            self._fit(latent)
            self.calls.fill_(0)
        elif self.training and torch.is_grad_enabled():
            self.calls.add_(1)
            if int(self.calls) % MEAN_EVERY == 0:
                self._follow(latent / self.scale)
        return straight_through(weight, self._nearest(latent))

    def _nearest(self, latent: Tensor) -> Tensor:
        table = self._table()
        codes = torch.bucketize((latent / self.scale).contiguous(), (table[1:] + table[:-1]) / 2)
        shared = table[codes] * self.scale
        return torch.where(latent == 0, latent, shared) if bool(self.with_zero) else shared

    def _table(self) -> Tensor:
        used = self.centroids[: self.values - 1] if bool(self.with_zero) else self.centroids
        if self.int8:
            used = used.round().clamp(-127, 127)
        return used.sort().values

    def _fit(self, latent: Tensor) -> None:
        if self.int8:
            peak = latent.abs().flatten(1).amax(1).clamp_min(1e-12)
            self.scale = (peak / 127).view_as(self.scale)
        members = self._members(latent / self.scale)
        count = self.values - 1 if bool(self.with_zero) else self.values
        if not len(members) or count < 1:
            self.centroids.zero_()
            return
        low, high = float(members.min()), float(members.max())
        self.centroids[:count] = torch.linspace(low, high, count) if count > 1 else members.mean()
        for _ in range(LLOYD_STEPS):
            self._step(members, count)

    def _follow(self, scaled: Tensor) -> None:
        count = self.values - 1 if bool(self.with_zero) else self.values
        members = self._members(scaled)
        if len(members) and count > 0:
            self._step(members, count)

    def _members(self, scaled: Tensor) -> Tensor:
        flat = scaled.flatten()
        return flat[flat != 0] if bool(self.with_zero) else flat

    def _step(self, members: Tensor, count: int) -> None:
        table = self.centroids[:count].sort().values
        codes = torch.bucketize(members, (table[1:] + table[:-1]) / 2)
        sizes = torch.bincount(codes, minlength=count)
        sums = torch.zeros(count).index_add_(0, codes, members)
        self.centroids[:count] = torch.where(sizes > 0, sums / sizes.clamp_min(1), table)


@dataclass(frozen=True)
class Clustering(WeightsStrategy):
    """At most ``2**bits`` values per tensor, trained with straight-through gradients."""

    name: ClassVar[str] = "clustering"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "shares weights: a table of a few values per tensor, codes in the file"
    paper: ClassVar[str] = "Han et al. 2016, Deep Compression"
    limits_text: ClassVar[str] = "makes files smaller, not inference faster"
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("model", "convolutions", "fully_connected")

    bits: int

    def __post_init__(self) -> None:
        within(self.name, "bits", self.bits, 1, 8)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.bits", 2, 6)
        return cls(suggester.suggest_int("bits", math.ceil(low), math.floor(high)))

    def attach(self, model: nn.Module, layers: Sequence[str], number_format: str) -> None:
        """See ``strategies.base.WeightsStrategy``."""
        for path in layers:
            module = model.get_submodule(path)
            weight = cast(Tensor, module.weight)
            parametrize.register_parametrization(
                module, "weight", Codebook(2**self.bits, weight, number_format == INT8))
