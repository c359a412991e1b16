"""What is kept of the data in memory, within a bound: samples as they were read, batches as they
were made. What comes first stays, and what no longer fits is read again: an epoch passes over all
samples, so that a cache which drops the oldest would never have the next one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from strategies.tensor_trees import leaves, mapped, size_bytes, zipped

SAMPLES_BYTES = {"training": 96 * 2**20, "validation": 24 * 2**20, "test": 8 * 2**20}
"""For samples of datasets, per task in a process."""
BATCHES_BYTES = 96 * 2**20
"""For batches that are made anew for every epoch, per builder."""
TEACHER_BYTES = 32 * 2**20
"""For the outputs of the uncompressed model, per builder. All together are 256 MiB."""


class KeptSamples:
    """Rows of a split whose samples have one shape, in tensors of all rows that fit."""

    def __init__(self, total: int, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._slots = torch.full((total,), -1)
        self._columns: Any = None
        self._capacity = self._used = 0

    def missing(self, positions: Sequence[int]) -> list[int]:
        """Those of ``positions`` that are not kept, in order."""
        kept = self._slots[torch.as_tensor(positions)]
        return [p for p, slot in zip(positions, kept.tolist(), strict=True) if slot < 0]

    def rows(self, positions: Sequence[int]) -> Any:
        """The kept samples at ``positions``, copied."""
        slots = self._slots[torch.as_tensor(positions)]
        return mapped(lambda column: column[slots], self._columns)

    def keep(self, positions: Sequence[int], rows: Any) -> None:
        """Keep as many of the samples at ``positions`` as fit; ``rows`` is a tree of tensors
        (n, ...)."""
        if self._columns is None:
            row_bytes = max(size_bytes(rows) // len(positions), 1)
            self._capacity = min(len(self._slots), self._limit_bytes // row_bytes)
            self._columns = mapped(
                lambda part: part.new_empty((self._capacity, *part.shape[1:])), rows)
        count = min(len(positions), self._capacity - self._used)
        if count <= 0 or not _alike(self._columns, rows):
            return
        end = self._used + count

        def write(column: Tensor, part: Tensor) -> Tensor:
            column[self._used:end] = part[:count]
            return column

        zipped(write, self._columns, rows)
        self._slots[torch.as_tensor(positions[:count])] = torch.arange(self._used, end)
        self._used = end


def _alike(columns: Any, rows: Any) -> bool:
    return all(column.shape[1:] == part.shape[1:] and column.dtype == part.dtype
               for column, part in zip(leaves(columns), leaves(rows), strict=True))


class KeptBatches:
    """Trees of tensors by key, up to ``limit_bytes``. Pictures in steps of 1/255 take a byte for
    each value."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes, self._taken_bytes, self._full = limit_bytes, 0, False
        self._trees: dict[object, tuple[Any, list[bool]]] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._trees

    def get(self, key: object) -> Any:
        """A copy of the tree kept under ``key``, bit for bit. Raises KeyError."""
        tree, pictures = self._trees[key]
        order = iter(pictures)
        return mapped(lambda part: _from_codes(part) if next(order) else part.clone(), tree)

    def keep(self, key: object, tree: Any) -> None:
        """Keep a copy of ``tree`` if it fits; after one that did not, none is kept."""
        if key in self._trees or self._full:
            return
        codes = [_codes(part) for part in leaves(tree)]
        order = iter(codes)

        def smallest(part: Tensor) -> Tensor:
            found = next(order)
            return part.clone() if found is None else found

        kept = mapped(smallest, tree)
        size = size_bytes(kept)
        self._full = self._taken_bytes + size > self._limit_bytes
        if not self._full:
            self._taken_bytes += size
            self._trees[key] = kept, [found is not None for found in codes]


def _codes(tensor: Tensor) -> Tensor | None:
    """``tensor`` times 255 as uint8 where that loses nothing, else None."""
    if tensor.dtype != torch.float32 or not all(map(_exact, (tensor[:1], tensor))):
        return None
    return _to_codes(tensor)


def _exact(tensor: Tensor) -> bool:
    return torch.equal(_from_codes(_to_codes(tensor)).view(torch.int32),
                       tensor.contiguous().view(torch.int32))


def _to_codes(tensor: Tensor) -> Tensor:
    return (tensor * 255).round_().clamp_(0, 255).to(torch.uint8)


def _from_codes(codes: Tensor) -> Tensor:
    return codes.float().div_(255)
