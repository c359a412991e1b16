"""Weight sharing: each tensor holds at most ``2**bits`` distinct values, zero among them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from strategies.base import Layer, Limits, Strength, Suggester, WeightsStrategy, within
from strategies.layers import TRANSPOSED, is_depthwise
from strategies.number_formats import FLOAT32, INT8
from strategies.weights.parametrizing import Promise, straight_through

DENSE_UNTIL = 0.5
LLOYD_STEPS = 25
LARGEST = 127
DEPTHWISE_BITS = 8
WHOLE_GRID_BITS = 8
"""With so many bits every integer has its code: no table to choose, none to store."""
MEAN_EVERY = 4
REFIT = -1
"""Value of ``calls`` while the centroids wait to be fitted again."""


class Codebook(nn.Module):
    """Each weight is its nearest centroid; the gradient goes straight through to the latent one.

    Centroids start evenly between the extremes (Han et al. 2016) and follow the mean of their
    members while training. On a ``grid`` the centroids are integers of ``weight / scale`` within
    -127..127 with one scale per output channel, so that int8 with these scales keeps the table.
    """

    def __init__(self, values: int, weight: Tensor, grid: bool) -> None:
        super().__init__()
        self.values, self.grid = values, grid
        self.centroids: Tensor
        self.active: Tensor
        self.with_zero: Tensor
        self.scale: Tensor
        self.calls: Tensor
        self.settled: Tensor
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("settled", torch.tensor(False))
        self.register_buffer("scale", self.scale_of(weight.detach()))
        self.register_buffer("centroids", torch.zeros(values))
        self.register_buffer("active", torch.tensor(True))
        self.register_buffer("with_zero", (weight.detach() == 0).any())
        self._fit(weight.detach())

    @classmethod
    def of(cls, module: nn.Module, bits: int, number_format: str = FLOAT32) -> Self:
        """For the weight of ``module``, a convolution or fully connected layer, as a file that
        computes with ``number_format`` holds it."""
        integers = number_format == INT8 and not isinstance(module, TRANSPOSED)
        grid = integers or is_depthwise(module) or bits == WHOLE_GRID_BITS
        return cls(2**bits, cast(Tensor, module.weight), grid)

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
        return self.scale.flatten() if self.grid else None

    def promise(self) -> Promise | None:
        """See ``strategies.weights.parametrizing.promises``; none before it is in force."""
        scale = self.scale if self.grid else None
        return Promise(values=self.values, scale=scale) if bool(self.active) else None

    def scale_of(self, weight: Tensor) -> Tensor:
        """What the centroids of ``weight`` are multiplied by, in a shape that broadcasts to it. On
        a grid it has 11 significant bits, so that products with integers are exact."""
        if not self.grid:
            return torch.ones(1)
        peak = weight.abs().flatten(1).amax(1).clamp_min(1e-12) / LARGEST
        mantissa, exponent = torch.frexp(peak)
        short = torch.ldexp((mantissa * 2048).ceil() / 2048, exponent)
        return short.view(-1, *[1] * (weight.dim() - 1))

    def allowed(self, table: Tensor) -> Tensor:
        """The values nearest to ``table`` that centroids may have, ascending."""
        if not self.grid:
            return table.sort().values
        if len(table) >= 2 * LARGEST + 1:  # room for the whole grid
            return torch.arange(-LARGEST, LARGEST + 1, dtype=table.dtype)
        return table.round().clamp(-LARGEST, LARGEST).sort().values

    def settle(self, table: Tensor, scale: Tensor) -> None:
        """The values are ``table`` times ``scale`` from now on, in force through any training; a
        reserved zero is none of ``table``."""
        self.centroids[: len(table)] = table
        self.centroids[len(table) :] = table[-1]
        self.scale.copy_(scale)
        self.active.fill_(True)
        self.settled.fill_(True)
        self.calls.fill_(0)

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
        return self.allowed(used)

    def _fit(self, latent: Tensor) -> None:
        self.scale.copy_(self.scale_of(latent))
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
    """At most ``2**bits`` values per tensor, trained with straight-through gradients.

    A depthwise convolution has few weights that each matter much: its values are multiples of a
    scale per filter, and among layers of other kinds it keeps 8 bits. Steps that select depthwise
    convolutions alone, and tables, decide their bits.
    """

    name: ClassVar[str] = "clustering"
    version: ClassVar[int] = 3
    summary: ClassVar[str] = "shares weights: a table of a few values per tensor, codes in the file"
    paper: ClassVar[str] = "Han et al. 2016, Deep Compression"
    limits_text: ClassVar[str] = "makes files smaller, not inference faster"
    requires: ClassVar[frozenset[str]] = frozenset()
    groups: ClassVar[tuple[str, ...]] = ("model", "convolutions", "fully_connected")
    by_layer: ClassVar[Mapping[str, type[int] | type[float]]] = {"bits": int}
    levels: ClassVar[tuple[float, ...]] = (2, 3, 4, 5, 6, 8)

    bits: Strength

    def __post_init__(self) -> None:
        within(self.name, "bits", self.bits, 1, 8)

    @classmethod
    def suggest(cls, suggester: Suggester, layers: Sequence[Layer], limits: Limits) -> Self:
        low, high = limits.range(f"{cls.name}.bits", 2, 6)
        return cls(suggester.suggest_int("bits", math.ceil(low), math.floor(high)))

    def changes(self, layer: Layer) -> bool:
        """See ``strategies.base.Strategy``."""
        values: int = 2 ** cast(int, self.of_layer(layer.name).bits)
        return values < math.prod(layer.weight_shape)

    def attach(self, model: nn.Module, layers: Sequence[str], number_format: str) -> None:
        """See ``strategies.base.WeightsStrategy``."""
        modules = {path: model.get_submodule(path) for path in layers}
        mixed = self.tabled_layers is None and not all(map(is_depthwise, modules.values()))
        for path, module in modules.items():
            bits = (DEPTHWISE_BITS if is_depthwise(module) and mixed
                    else cast(int, self.of_layer(path).bits))
            codebook = Codebook.of(module, bits, number_format)
            parametrize.register_parametrization(module, "weight", codebook)
