"""One look at the samples of a split: shapes, values, targets and a digest of each sample."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from searcher.tasks.data.samples import Samples
from searcher.tasks.data.splits import SampleBatch

AT_ONCE = 64
MOST_VALUES = 10_000
"""Distinct target values that are counted."""


@dataclass
class InputLook:
    """The values of one input. ``bad`` are the samples with NaN or infinity."""

    name: str
    type: str
    shape: tuple[int, ...]
    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0
    count: int = 0
    bad: list[int] = field(default_factory=list)
    whole: bool = True
    """Whether all values are whole numbers."""

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    @property
    def deviation(self) -> float:
        return float(max(self.squares / max(self.count, 1) - self.mean**2, 0.0) ** 0.5)

    def add(self, values: Tensor, numbers: Sequence[int]) -> None:
        """``values`` (n, ...) of the samples ``numbers``."""
        flat = values.detach().cpu().reshape(len(values), -1).double()
        finite = torch.isfinite(flat)
        if not bool(finite.all()):
            self.bad += [numbers[i] for i in (~finite).any(1).nonzero().flatten().tolist()]
            flat = flat[finite.all(1)]
        if flat.numel():
            self.low, self.high = min(self.low, float(flat.min())), max(
                self.high, float(flat.max()))
            self.total, self.squares = self.total + float(flat.sum()), self.squares + float(
                flat.square().sum())
            self.count += flat.numel()
            self.whole = self.whole and bool((flat == flat.round()).all())


@dataclass
class TargetLook:
    """The values of a tensor of targets; ``shape`` is that of one sample. ``counts`` and ``first``
    are by value, for whole numbers only: how often, and in which sample first."""

    type: str
    shape: tuple[int, ...]
    low: float = float("inf")
    high: float = float("-inf")
    bad: list[int] = field(default_factory=list)
    whole: bool = True
    counts: Counter[int] = field(default_factory=Counter)
    first: dict[int, int] = field(default_factory=dict)
    one_hot: bool = True
    total: float = 0.0
    count: int = 0

    def add(self, values: Tensor, numbers: Sequence[int]) -> None:
        """``values`` (n, ...) of the samples ``numbers``."""
        values = values.detach().cpu()
        rows = values.reshape(len(values), -1).double()
        finite = torch.isfinite(rows).all(1)
        self.bad += [numbers[i] for i in (~finite).nonzero().flatten().tolist()]
        rows = rows[finite]
        if not rows.numel():
            return
        self.low, self.high = min(self.low, float(rows.min())), max(self.high, float(rows.max()))
        self.total, self.count = self.total + float(rows.sum()), self.count + rows.numel()
        self.whole = self.whole and bool((rows == rows.round()).all())
        self.one_hot = self.one_hot and values.ndim == 2 and values.shape[1] > 1 and bool(
            ((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all())
        if self.whole and len(self.counts) < MOST_VALUES:
            self._count(rows, [n for n, fine in zip(numbers, finite.tolist(), strict=True) if fine])

    def _count(self, rows: Tensor, numbers: Sequence[int]) -> None:
        found, counts = np.unique(rows.numpy(), return_counts=True)
        for value, count in zip(found.astype(np.int64).tolist(), counts.tolist(), strict=True):
            self.counts[value] += count
            if value not in self.first or min(numbers) < self.first[value]:
                where = (rows == value).any(1).nonzero().flatten().tolist()
                smallest = min(numbers[i] for i in where)
                self.first[value] = min(smallest, self.first.get(value, smallest))


@dataclass
class Look:
    """What ``seen`` of the ``total`` samples of a split hold. ``samples`` are the sample numbers by
    digest of the inputs, ``repeated`` those whose inputs equal those of an earlier one. ``targets``
    are by key; the key of a plain tensor is the empty text."""

    split: str
    total: int
    seen: int = 0
    seconds: float = 0.0
    inputs: dict[str, InputLook] = field(default_factory=dict)
    targets: dict[str, TargetLook] = field(default_factory=dict)
    samples: dict[bytes, int] = field(default_factory=dict)
    repeated: list[int] = field(default_factory=list)
    sample_bytes: int = 0

    @property
    def coverage(self) -> str:
        """``all 400``, or ``2,000 of 55,000 (evenly spread)``."""
        if self.seen == self.total:
            return f"all {self.total:,}"
        return f"{self.seen:,} of {self.total:,} (evenly spread)"


def look(samples: Samples, split: str, names: Sequence[str], seconds: float) -> Look:
    """Look at all samples of a split, or, when that takes longer than ``seconds``, at an evenly
    spread part. ``names`` are those of the inputs. Raises TaskError for what the user's dataset
    raises."""
    found = Look(split, len(samples))
    began_s = time.perf_counter()
    plan = list(spread(len(samples)))
    for numbers, (inputs, targets) in zip(plan, samples.stream(plan), strict=False):
        _add(found, SampleBatch(inputs, targets, numbers[0]), names, numbers)
        found.seconds = time.perf_counter() - began_s
        if found.seconds > seconds:
            break
    return found


def read(samples: Samples, numbers: Sequence[int]) -> SampleBatch:
    """The samples ``numbers``."""
    inputs, targets = next(iter(samples.stream([numbers])))
    return SampleBatch(inputs, targets, numbers[0])


def _add(found: Look, batch: SampleBatch, names: Sequence[str], numbers: Sequence[int]) -> None:
    for name, values in zip(names, batch.inputs, strict=True):
        if name not in found.inputs:
            found.inputs[name] = InputLook(name, type_text(values), tuple(values.shape[1:]))
        found.inputs[name].add(values, numbers)
    for key, values in tensors_of(batch.targets).items():
        if key not in found.targets:
            found.targets[key] = TargetLook(type_text(values), tuple(values.shape[1:]))
        found.targets[key].add(values, numbers)
    for number, digest in zip(numbers, digests(batch.inputs), strict=True):
        if digest in found.samples:
            found.repeated.append(number)
        else:
            found.samples[digest] = number
    found.seen += len(numbers)
    tensors = (*batch.inputs, *tensors_of(batch.targets).values())
    found.sample_bytes = sum(values.nbytes for values in tensors) // len(numbers)


def spread(total: int, at_once: int = AT_ONCE) -> Iterator[list[int]]:
    """All sample numbers in parts of ``at_once`` neighbours, the parts in bit-reversed order:
    where one stops, the parts so far are spread evenly."""
    parts = -(-total // at_once)
    bits = max(parts - 1, 0).bit_length()
    for number in range(1 << bits):
        part = int(f"{number:0{bits}b}"[::-1], 2) if bits else 0
        if part < parts:
            yield list(range(part * at_once, min((part + 1) * at_once, total)))


def digests(inputs: Sequence[Tensor]) -> list[bytes]:
    """One digest per sample of the inputs (n, ...)."""
    arrays = [np.ascontiguousarray(value.detach().cpu().numpy()) for value in inputs]
    found = []
    for number in range(len(arrays[0])):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(array[number].tobytes())
        found.append(digest.digest())
    return found


def tensors_of(targets: Any, key: str = "") -> dict[str, Tensor]:
    """The tensors in a structure of targets by their path, such as ``boxes`` or ``0``."""
    if isinstance(targets, Tensor):
        return {key: targets}
    parts: Iterator[tuple[Any, Any]] = iter(
        targets.items() if isinstance(targets, Mapping)
        else enumerate(targets) if isinstance(targets, tuple | list) else ())
    found: dict[str, Tensor] = {}
    for name, part in parts:
        found |= tensors_of(part, f"{key}.{name}" if key else str(name))
    return found


def type_text(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
