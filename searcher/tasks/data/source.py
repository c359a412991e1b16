"""What the user gives as a split, in one of two forms: a dataset, or arrays in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    default_collate,
)

from searcher.errors import TaskError
from searcher.tasks.data.layout import Layout
from searcher.tasks.data.seeding import (
    generator_states,
    kept_generators,
    seed_generators,
    seed_of,
)
from searcher.tasks.data.splits import Split
from searcher.tasks.data.stacking import check_batch, single, stack
from searcher.tasks.user_code import described, user_code

EXPECTED = ("Expected a map-style Dataset (with __len__ and __getitem__), a DataLoader of one, or "
            "a pair (inputs, targets) of arrays or tensors")

Rows = tuple[tuple[Tensor, ...], Any]
"""Inputs, and targets, of some samples, as the data give them."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """A split in memory. ``rows`` are the numbers of its samples in the arrays."""

    split: str
    inputs: Any
    targets: Any
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def form(self) -> Any:
        """Something of the form of a sample."""
        return self.inputs, self.targets

    def sample(self, position: int, seed: int = 0) -> Any:
        """The sample: (inputs, target)."""
        row = self.rows[position:position + 1]
        return tuple(_picked(lambda a: a[row][0], part) for part in (self.inputs, self.targets))

    def read(self, positions: Sequence[int], layout: Layout, seed: int, number: int) -> Rows:
        """The samples at ``positions``, copied; ``seed`` and ``number`` change nothing."""
        chosen = self.rows[np.asarray(positions, np.int64)]
        inputs, targets = layout.pick((self.inputs, self.targets), self.split)

        def rows(array: Any) -> Tensor:
            if isinstance(array, Tensor):
                return array.detach().index_select(
                    0, torch.from_numpy(chosen).to(array.device)).cpu()
            return _tensor(array[chosen])

        return tuple(single(_picked(rows, value), self.split, f"input {name!r}")
                     for name, value in zip(layout.names, inputs, strict=True)), (
            _picked(rows, targets))


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """A map-style dataset. ``rows`` are the numbers of the split's samples in it, ``collate`` is
    the user's collate_fn; None stacks them. ``workers``, ``worker_init`` and ``context`` are those
    of the user's DataLoader."""

    split: str
    dataset: Any
    rows: np.ndarray
    collate: Callable[[list[Any]], Any] | None = None
    workers: int = 0
    worker_init: Callable[[int], object] | None = None
    context: Any = None

    def __len__(self) -> int:
        return len(self.rows)

    def form(self) -> Any:
        """Something of the form of a sample: the first, collated where the user collates."""
        first = self.sample(0)
        if self.collate is None:
            return first
        with kept_generators(), self._collating(self.collate):
            seed_generators(0)
            return self.collate([first])

    def sample(self, position: int, seed: int = 0) -> Any:
        """The sample as the dataset gives it, read under ``seed``."""
        with kept_generators():
            return self._sample(position, seed)

    def draws(self, position: int) -> bool:
        """Whether reading the sample takes random numbers from a global generator."""
        with kept_generators():
            seed_generators(0)
            before = generator_states()
            with user_code(self.name(position)):
                self.dataset[int(self.rows[position])]
            return generator_states() != before

    def read(self, positions: Sequence[int], layout: Layout, seed: int, number: int) -> Rows:
        """The samples at ``positions``. All random numbers that the user's code draws from the
        global generators depend on ``seed``, ``number`` and the sample only."""
        def where(i: int) -> str:
            return self.name(positions[i])

        with kept_generators():
            samples = [self._sample(p, seed_of(seed, number, p)) for p in positions]
            if self.collate is None:
                picked = [layout.pick(sample, where(i)) for i, sample in enumerate(samples)]
                inputs = tuple(
                    single(stack([found[k] for found, _ in picked], where, f"input {name!r}"),
                           where(0), f"input {name!r}") for k, name in enumerate(layout.names))
                return inputs, stack([target for _, target in picked], where, "the target")
            seed_generators(seed_of(seed, number, positions[0], 1))
            with self._collating(self.collate):
                batch = self.collate(samples)
            said = f"{self.split}: the batch that collate_fn makes"
            found, targets = layout.pick(batch, said)
            inputs = tuple(
                check_batch(single(value, said, f"input {name!r}"), len(samples), said,
                            f"input {name!r}")
                for name, value in zip(layout.names, found, strict=True))
            return inputs, check_batch(targets, len(samples), said, "the target")

    def name(self, position: int) -> str:
        """``training[713]``, by the number in the dataset."""
        return f"{self.split}[{self.rows[position]}]"

    def _sample(self, position: int, seed: int) -> Any:
        seed_generators(seed)
        with user_code(self.name(position), "The dataset raised it: correct the sample, or leave "
                                            "it out of the dataset."):
            return self.dataset[int(self.rows[position])]

    def _collating(self, collate: Callable[[list[Any]], Any]) -> Any:
        name = getattr(collate, "__qualname__", type(collate).__name__)
        return user_code(f"{self.split}: collate_fn {name}")


Source = ArraySource | DatasetSource


def part_of(source: Source, positions: np.ndarray, split: str) -> Source:
    """The samples at ``positions`` as the split ``split``."""
    return replace(source, rows=source.rows[positions], split=split)


def source_of(split: str, given: Any) -> Source:
    """The user's ``given`` as a source. Raises TaskError that names the split."""
    if isinstance(given, DataLoader):
        return _of_loader(split, given)
    if isinstance(given, Split):
        return _of_arrays(split, given.inputs, given.targets)
    if isinstance(given, tuple):
        if len(given) != 2:
            raise TaskError(f"{split}: found {described(given)}. {EXPECTED}.")
        return _of_arrays(split, *given)
    return DatasetSource(split, given, np.arange(_length(split, given)))


def _of_loader(split: str, loader: "DataLoader[Any]") -> DatasetSource:
    dataset = loader.dataset
    length = _length(split, dataset)
    if loader.batch_sampler is None:
        raise TaskError(f"{split}: the DataLoader has batch_size=None, so its dataset gives whole "
                        "batches. Give a dataset of single samples.")
    sampler = loader.sampler
    rows = np.arange(length)
    if isinstance(sampler, SubsetRandomSampler):
        rows = np.sort(np.fromiter(sampler.indices, np.int64))
    elif (not isinstance(sampler, SequentialSampler | RandomSampler)
          or type(loader.batch_sampler) is not BatchSampler):
        odd = sampler if type(loader.batch_sampler) is BatchSampler else loader.batch_sampler
        raise TaskError(
            f"{split}: the DataLoader draws its samples by {type(odd).__name__}, which training "
            "and evaluation do not follow. Give its dataset itself (`loader.dataset`), or a "
            "torch.utils.data.Subset of it.")
    collate = None if loader.collate_fn is default_collate else loader.collate_fn
    return DatasetSource(split, dataset, rows, collate, loader.num_workers, loader.worker_init_fn,
                         loader.multiprocessing_context)


def _of_arrays(split: str, inputs: Any, targets: Any) -> ArraySource:
    lengths = {}
    for field, value in (("inputs", inputs), ("targets", targets)):
        for name, array in _named_arrays(split, field, value):
            lengths[name] = len(array)
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise TaskError(f"{split}: the numbers of samples differ: {found}. Expected one target "
                        "for each input.")
    return ArraySource(split, inputs, targets, np.arange(next(iter(lengths.values()))))


def _named_arrays(split: str, field: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for key, part in value.items()
                for pair in _named_arrays(split, f"{field}[{key!r}]", part)]
    if isinstance(value, tuple):
        return [pair for k, part in enumerate(value)
                for pair in _named_arrays(split, f"{field}[{k}]", part)]
    if not isinstance(value, np.ndarray | Tensor):
        raise TaskError(f"{split}: {field} is {described(value)}. Expected an array or a tensor "
                        "with one row for each sample.")
    if value.ndim == 0:
        raise TaskError(f"{split}: {field} is {described(value)}. Expected one row for each "
                        "sample.")
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biufc":
        raise TaskError(f"{split}: {field} is {described(value)}. Expected numbers; arrays of "
                        "objects often come from samples of different shapes.")
    if isinstance(value, np.ndarray):
        with user_code(f"{split}: {field} is {described(value)}", "Convert it to another type."):
            _tensor(value[:0].copy())
    return [(field, value)]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _picked(change: Callable[[Any], Any], structure: Any) -> Any:
    if isinstance(structure, Mapping):
        return {key: _picked(change, part) for key, part in structure.items()}
    if isinstance(structure, tuple):
        return tuple(_picked(change, part) for part in structure)
    return change(structure)


def _length(split: str, dataset: Any) -> int:
    if isinstance(dataset, IterableDataset):
        raise TaskError(f"{split}: {type(dataset).__name__} is an IterableDataset, whose samples "
                        f"have no numbers. {EXPECTED}.")
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or isinstance(
            dataset, str | bytes | Mapping):
        raise TaskError(f"{split}: found {described(dataset)}. {EXPECTED}.")
    with user_code(f"{split}: len() of {type(dataset).__name__}"):
        return len(dataset)
