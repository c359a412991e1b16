"""What a layer reads: its inputs as the columns of a matrix product, and their moments."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd, prod
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

CALIBRATION_BATCH = 64
MOST_COLUMNS = 2048
"""Columns of one Hessian; a filter of more is cut into equal parts that do not know each other."""
MOST_POSITIONS = 16384
"""Rows of the matrix of inputs at most: evenly spaced positions of feature maps say as much as all
of them, for neighbours are alike."""

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


@dataclass(frozen=True)
class Geometry:
    """How a layer reads its inputs; ``kernel`` is empty for a fully connected layer. ``padding``
    is that of ``torch.nn.functional.pad``."""

    groups: int = 1
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
        if not isinstance(module, Convolution):
            raise TypeError(f"{type(module).__name__} is neither linear nor a convolution")
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        padding = cast(Any, module)._reversed_padding_repeated_twice
        return cls(module.groups, tuple(module.kernel_size), tuple(module.stride),
                   tuple(module.dilation), tuple(padding), mode)

    def rows(self, weight: Tensor) -> Tensor:
        """``weight`` as (groups, filters of a group, columns); groups count the parts of filters
        of more than MOST_COLUMNS."""
        rows = weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        parts = _parts(rows.shape[2])
        return rows if parts == 1 else rows.squeeze(0).unflatten(1, (parts, -1)).transpose(0, 1)

    def weight(self, rows: Tensor, like: Tensor) -> Tensor:
        """The inverse of ``rows``: a weight of the shape of ``like``."""
        if rows.shape[0] != self.groups:
            rows = rows.transpose(0, 1)
        return rows.reshape(like.shape)

    def columns(self, inputs: Tensor) -> Tensor:
        """(groups, n, columns) so that ``columns @ rows.mT`` are outputs; some evenly spaced n."""
        if not self.kernel:
            found = inputs.reshape(1, -1, inputs.shape[-1])
            found = found[:, :: _every(found.shape[1])]
        else:
            found = self._windows(inputs)
        parts = _parts(found.shape[2]) if self.groups == 1 else 1
        return found if parts == 1 else found.squeeze(0).unflatten(1, (parts, -1)).transpose(0, 1)

    def channel_mean(self, outputs: Tensor) -> Tensor:
        """(output channels,): the mean over everything else."""
        axis = outputs.dim() - 1 - len(self.kernel)
        return outputs.transpose(0, axis).flatten(1).mean(1)

    def per_channel(self, values: Tensor) -> Tensor:
        """``values`` (output channels,) in the shape in which they are added to outputs."""
        return values.view(-1, *[1] * len(self.kernel))

    def _windows(self, inputs: Tensor) -> Tensor:
        count = len(self.kernel)
        windows = inputs if inputs.dim() == count + 2 else inputs.unsqueeze(0)
        if any(self.padding):
            windows = nn.functional.pad(windows, self.padding, mode=self.padding_mode)
        for axis, kernel in enumerate(self.kernel):
            reach = (kernel - 1) * self.dilation[axis] + 1
            windows = windows.unfold(2 + axis, reach, self.stride[axis])
            windows = windows[..., :: self.dilation[axis]]
        windows = windows.unflatten(1, (self.groups, -1))
        places, window = range(3, 3 + count), range(3 + count, 3 + 2 * count)
        windows = windows.permute(1, 0, *places, 2, *window)
        sizes = windows.shape[1 : 2 + count]
        picked = torch.unravel_index(torch.arange(0, prod(sizes), _every(prod(sizes))), sizes)
        return windows[(slice(None), *picked)].flatten(2)


def _parts(columns: int) -> int:
    """How many equal parts of at most MOST_COLUMNS there are."""
    least = -(-columns // MOST_COLUMNS)
    return next(parts for parts in range(least, columns + 1) if columns % parts == 0)


def _every(count: int) -> int:
    """The distance of at most MOST_POSITIONS of ``count`` positions. It shares no divisor with
    ``count``, so that it meets every place of a feature map."""
    every = max(1, -(-count // MOST_POSITIONS))
    while gcd(every, count) > 1:
        every += 1
    return every


@dataclass(frozen=True)
class Moments:
    """``second`` (groups, columns, columns) and ``mean`` (groups, columns) of a layer's inputs
    over samples and positions."""

    second: Tensor
    mean: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.second - self.mean.unsqueeze(2) * self.mean.unsqueeze(1)


def moments(columns: Tensor) -> Moments:
    """Of ``columns`` (groups, n, columns)."""
    return Moments(columns.mT @ columns / columns.shape[1], columns.mean(1))


@contextmanager
def hooked(model: nn.Module, layers: Sequence[str],
           seen: Callable[[str, nn.Module, Tensor, Tensor], Tensor | None]) -> Iterator[None]:
    """Within, ``seen(name, module, inputs, outputs)`` is called after every call of a layer; what
    it returns, unless None, replaces the outputs. Attention runs layer by layer meanwhile."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
        return lambda module, inputs, outputs: seen(name, module, inputs[0], outputs)

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        torch.backends.mha.set_fastpath_enabled(fast)


def batches_of(calibration: Sequence[Tensor], size: int = CALIBRATION_BATCH
               ) -> Iterator[tuple[Tensor, ...]]:
    """``calibration``, one tensor (n, ...) for each input of the model, in batches."""
    for start in range(0, len(calibration[0]), size):
        yield tuple(tensor[start : start + size] for tensor in calibration)


@torch.no_grad()
def moments_of(model: nn.Module, layers: Sequence[str], calibration: Sequence[Tensor]
               ) -> dict[str, Moments]:
    """Moments of the inputs of each of ``layers`` of ``model`` (in evaluation mode), accumulated
    batch by batch. A layer that the model does not call is left out."""
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def seen(name: str, module: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
        columns = Geometry.of(module).columns(inputs)
        second, first, count = columns.mT @ columns, columns.sum(1), columns.shape[1]
        if name in sums:
            before = sums[name]
            second, first, count = second + before[0], first + before[1], count + before[2]
        sums[name] = second, first, count

    with hooked(model, layers, seen):
        for batch in batches_of(calibration):
            model(*batch)
    return {name: Moments(second / count, first / count)
            for name, (second, first, count) in sums.items()}
