"""What a split does when its samples are read: whether they change, and what they are."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from searcher.tasks.data.layout import Layout
from searcher.tasks.data.source import ArraySource, Rows, Source
from strategies.tensor_trees import leaves

PROBES = 16
"""Samples, evenly spread, that are read to learn the habits of a split."""


@dataclass(frozen=True)
class Habits:
    """``augments``: a sample depends on random numbers. ``repeats``: read again under the same
    random numbers, it is the same. ``digest`` is a sha256 of the number of samples and of the
    probes; where they do not repeat, of their shapes and types."""

    augments: bool
    repeats: bool
    digest: str


def habits_of(source: Source, layout: Layout) -> Habits:
    """Read the probes of ``source``. Raises TaskError."""
    total = len(source)
    probes = np.unique(np.linspace(0, total - 1, min(PROBES, total)).astype(np.int64)).tolist()
    first = [source.read([p], layout, 0, 0) for p in probes]
    augments, repeats = False, True
    if not isinstance(source, ArraySource):
        repeats = all(_same(rows, source.read([p], layout, 0, 0))
                      for p, rows in zip(probes, first, strict=True))
        augments = not repeats or any(
            source.draws(p) or not _same(rows, source.read([p], layout, 1, 0))
            for p, rows in zip(probes, first, strict=True))
    found = hashlib.sha256(str(total).encode())
    for rows in first:
        for tensor in leaves(rows):
            found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            if repeats:
                found.update(_bytes(tensor))
    return Habits(augments, repeats, found.hexdigest())


def _same(one: Rows, other: Rows) -> bool:
    return all(a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
               for a, b in zip(leaves(one), leaves(other), strict=True))


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
