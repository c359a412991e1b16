"""What a layer reads: its inputs as the columns of a matrix product, and their moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from strategies.dataflow import evaluating
from strategies.repair.lockstep import BATCH
from strategies.tensor_trees import leaves

MOST_COLUMNS = 2048
"""Columns of one Hessian; a filter of more is cut into equal parts that do not know each other."""
MOST_POSITIONS = 16384
"""Rows of the matrix of inputs at most: evenly spaced positions of feature maps say as much as all
of them, for neighbours are alike."""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Geometry:
    """How a layer reads its inputs. ``kernel`` is empty for a fully connected layer; a transposed
    convolution reads one position at a time, each of its filters is one row for every place of
    its kernel. ``padding`` is that of ``torch.nn.functional.pad``."""

    groups: int = 1
    transposed: bool = False
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    padding_mode: str = "constant"

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """Raises TypeError for what is neither a fully connected layer nor a convolution."""
        if isinstance(module, nn.Linear):
            return cls()
        if isinstance(module, TRANSPOSED):
            ones = (1,) * len(module.kernel_size)
            return cls(module.groups, True, ones, ones, ones)
        if not isinstance(module, CONVOLUTIONS):
            raise TypeError(f"{type(module).__name__} is neither linear nor a convolution")
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        padding = cast(Any, module)._reversed_padding_repeated_twice
        return cls(module.groups, False, tuple(module.kernel_size), tuple(module.stride),
                   tuple(module.dilation), tuple(padding), mode)

    def rows(self, weight: Tensor) -> Tensor:
        """``weight`` as (groups, filters of a group, columns); groups count the parts of filters
        of more than MOST_COLUMNS."""
        if self.transposed:
            return weight.reshape(self.groups, weight.shape[0] // self.groups, -1).mT
        rows = weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        parts = _parts(rows.shape[2]) if self.groups == 1 else 1
        return _cut(rows, parts)

    def weight(self, rows: Tensor, like: Tensor) -> Tensor:
        """The inverse of ``rows``: a weight of the shape of ``like``."""
        if self.transposed:
            rows = rows.mT
        elif rows.shape[0] != self.groups:
            rows = rows.transpose(0, 1)
        return rows.reshape(like.shape)

    def per_output(self, rows: Tensor) -> Tensor:
        """(output channels,): the sum of ``rows`` (groups, filters of a group, columns) over what
        one output reads. Not for transposed convolutions, of which outputs read several rows."""
        sums = rows.sum(2)
        return sums.flatten() if rows.shape[0] == self.groups else sums.sum(0)

    def columns(self, inputs: Tensor, most: int = MOST_POSITIONS) -> Tensor:
        """(groups, n, columns) so that ``columns @ rows.mT`` are outputs without bias: ``most``
        evenly spaced ones at most."""
        if not self.kernel:
            found = inputs.reshape(1, -1, inputs.shape[-1])
            found = found[:, :: _every(found.shape[1], most)]
        else:
            found = self._windows(inputs, most)
        parts = _parts(found.shape[2]) if self.groups == 1 else 1
        return _cut(found, parts)

    def _windows(self, inputs: Tensor, most: int) -> Tensor:
        count = len(self.kernel)
        windows = inputs if inputs.dim() == count + 2 else inputs.unsqueeze(0)
        if any(self.padding):
            windows = nn.functional.pad(windows, self.padding, mode=self.padding_mode)
        for axis, kernel in enumerate(self.kernel):
            reach = (kernel - 1) * self.dilation[axis] + 1
            windows = windows.unfold(2 + axis, reach, self.stride[axis])
            windows = windows[..., :: self.dilation[axis]]
        windows = windows.reshape(len(windows), self.groups, -1, *windows.shape[2:])
        places, window = range(3, 3 + count), range(3 + count, 3 + 2 * count)
        windows = windows.permute(1, 0, *places, 2, *window)
        sizes = windows.shape[1 : 2 + count]
        every = _every(prod(sizes), most)
        picked = torch.unravel_index(torch.arange(0, prod(sizes), every), sizes)
        at: Any = (slice(None), *picked)
        return windows[at].flatten(2)


def _cut(rows: Tensor, parts: int) -> Tensor:
    """``rows`` (1, n, columns) as (parts, n, columns of a part)."""
    return rows if parts == 1 else rows.reshape(rows.shape[1], parts, -1).transpose(0, 1)


def _parts(columns: int) -> int:
    """How many equal parts of at most MOST_COLUMNS there are."""
    least = -(-columns // MOST_COLUMNS)
    return next(parts for parts in range(least, columns + 1) if columns % parts == 0)


def _every(count: int, most: int) -> int:
    """The distance of at most ``most`` of ``count`` positions. It shares no divisor with
    ``count``, so that it meets every place of a feature map."""
    every = max(1, -(-count // most))
    while gcd(every, count) > 1:
        every += 1
    return every


@dataclass(frozen=True)
class Moments:
    """``mean`` (groups, columns) and ``covariance`` (groups, columns, columns) of a layer's inputs
    over samples and positions."""

    mean: Tensor
    covariance: Tensor

    @property
    def second(self) -> Tensor:
        """The mean of ``x x^T``."""
        return self.covariance + self.mean.unsqueeze(2) * self.mean.unsqueeze(1)


class Sums:
    """Running sums of pairs of columns (groups, n, columns). They are taken around the mean of the
    first batch, for the difference of large numbers is not exact."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, left: Tensor, right: Tensor) -> None:
        if not self._count:
            self._around = left.mean(1, keepdim=True), right.mean(1, keepdim=True)
            self._sums: tuple[Tensor, ...] = (torch.zeros(()),) * 3
        left, right = left - self._around[0], right - self._around[1]
        found = left.sum(1), right.sum(1), left.mT @ right
        self._sums = tuple(sum_ + part for sum_, part in zip(self._sums, found, strict=True))
        self._count += left.shape[1]

    def means(self) -> tuple[Tensor, Tensor]:
        """(groups, columns) of either."""
        return (self._around[0].squeeze(1) + self._sums[0] / self._count,
                self._around[1].squeeze(1) + self._sums[1] / self._count)

    def covariance(self) -> Tensor:
        """(groups, columns of the left, columns of the right)."""
        left, right, products = (part / self._count for part in self._sums)
        return products - left.unsqueeze(2) * right.unsqueeze(1)


@torch.no_grad()
def moments_of(model: nn.Module, layers: Sequence[str], calibration: Sequence[Tensor]
               ) -> dict[str, Moments]:
    """Moments of the inputs of each of ``layers`` of ``model``, accumulated batch by batch over
    ``calibration``, one tensor (n, ...) for each input of the model. A layer that the model does
    not call is left out."""
    sums: dict[str, Sums] = {}

    def noting(name: str, geometry: Geometry) -> Any:
        def note(module: nn.Module, inputs: Any, named: Any) -> None:
            columns = geometry.columns(next(leaves((inputs, named))))
            sums.setdefault(name, Sums()).add(columns, columns)
        return note

    hooks = []
    for name in layers:
        module = model.get_submodule(name)
        hooks.append(module.register_forward_pre_hook(
            noting(name, Geometry.of(module)), with_kwargs=True))
    try:
        with evaluating(model):
            for batch in zip(*(torch.split(tensor, BATCH) for tensor in calibration), strict=True):
                model(*(tensor.clone() for tensor in batch))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: Moments(found.means()[0], found.covariance()) for name, found in sums.items()}
