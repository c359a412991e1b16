"""One split, read when it is needed, batch by batch, and kept within a bound."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from searcher.errors import TaskError
from searcher.tasks.data.element_types import as_input, as_target
from searcher.tasks.data.habits import Habits, habits_of
from searcher.tasks.data.kept import SAMPLES_BYTES, KeptBatches, KeptSamples
from searcher.tasks.data.layout import Layout
from searcher.tasks.data.reading import Reader, SampleRequest
from searcher.tasks.data.source import ArraySource, Rows, Source
from searcher.tasks.data.splits import SampleBatch
from searcher.tasks.user_code import described, user_code
from strategies.tensor_trees import mapped, zipped


class Samples:
    """The samples of one split in their order. ``precision`` is the model's floating point type;
    ``workers`` processes read a dataset, by default as many as those of the user's DataLoader.

    Reading raises TaskError that names the split and the sample where the user's data are wrong.
    Samples of a dataset are kept in memory up to ``SAMPLES_BYTES``, unless they are training
    samples that change from one epoch to the next.
    """

    def __init__(self, source: Source, layout: Layout, precision: torch.dtype,
                 workers: int = 0) -> None:
        self._source, self._layout, self._precision = source, layout, precision
        of_loader = 0 if isinstance(source, ArraySource) else source.workers
        self._reader = Reader(source, layout, workers or of_loader, source.split == "training")

    def __len__(self) -> int:
        return len(self._source)

    @property
    def in_memory(self) -> bool:
        """Whether the user gave arrays."""
        return isinstance(self._source, ArraySource)

    @property
    def collated(self) -> bool:
        """Whether a function of the user makes batches of samples."""
        return not isinstance(self._source, ArraySource) and self._source.collate is not None

    @functools.cached_property
    def habits(self) -> Habits:
        """What reading a few samples shows."""
        return habits_of(self._source, self._layout)

    def batches(self, size: int) -> Iterator[SampleBatch]:
        """All samples in order, ``size`` at a time, read as they are asked for."""
        plan = [range(start, min(start + size, len(self))) for start in range(0, len(self), size)]
        for positions, (inputs, targets) in zip(plan, self.stream(plan), strict=True):
            yield SampleBatch(inputs, targets, positions.start)

    def stream(self, plan: Iterable[Sequence[int]], seed: int = 0, number: int = 0
               ) -> Iterator[Rows]:
        """The samples at each of the positions of ``plan``. A dataset that draws random numbers
        draws the same for the same ``seed``, ``number`` and sample."""
        requests = [SampleRequest(positions, seed, number) for positions in plan]
        if self._kept is not None:
            read = self._through(self._kept, requests)
        elif self._kept_batches is not None:
            read = self._through_batches(self._kept_batches, requests)
        else:
            read = self._reader.stream(requests)
        for inputs, targets in read:
            yield (tuple(as_input(tensor, self._precision) for tensor in inputs),
                   mapped(lambda tensor: as_target(tensor, self._precision), targets))

    def groups(self, group_of: Callable[[Any], str]) -> list[str]:
        """The group of every sample by ``Task.groups``. Raises TaskError."""
        found = []
        for position in range(len(self)):
            sample = self._source.sample(position)
            where = f"groups: for sample {position} of {self._source.split}"
            with user_code(where, f"It got {described(sample)}."):
                group = group_of(sample)
            if not isinstance(group, str):
                raise TaskError(f"{where}: gave {described(group)}, expected a text.")
            found.append(group)
        return found

    @functools.cached_property
    def _kept(self) -> KeptSamples | None:
        if self.in_memory or self.collated:
            return None
        if self._source.split == "training" and self.habits.augments:
            return None
        return KeptSamples(len(self), SAMPLES_BYTES[self._source.split])

    @functools.cached_property
    def _kept_batches(self) -> KeptBatches | None:
        """Of evaluation splits that a function of the user collates."""
        if not self.collated or self._source.split == "training":
            return None
        return KeptBatches(SAMPLES_BYTES[self._source.split])

    def _through_batches(self, kept: KeptBatches, requests: Sequence[SampleRequest]
                         ) -> Iterator[Rows]:
        keys = [(*request.positions, request.seed, request.number) for request in requests]
        fresh = self._reader.stream([
            request for request, key in zip(requests, keys, strict=True) if key not in kept])
        new = {key for key in keys if key not in kept}
        for key in keys:
            rows = next(fresh) if key in new else kept.get(key)
            kept.keep(key, rows)
            yield rows

    def _through(self, kept: KeptSamples, requests: Sequence[SampleRequest]) -> Iterator[Rows]:
        missing = [kept.missing(request.positions) for request in requests]
        fresh = self._reader.stream([
            SampleRequest(positions, request.seed, request.number)
            for request, positions in zip(requests, missing, strict=True) if positions])
        for request, positions in zip(requests, missing, strict=True):
            if not positions:
                yield kept.rows(request.positions)
                continue
            rows = next(fresh)
            kept.keep(positions, rows)
            if len(positions) == len(request.positions):
                yield rows
            else:
                yield _joined(kept, request.positions, positions, rows)


def _joined(kept: KeptSamples, wanted: Sequence[int], fresh: Sequence[int], rows: Rows) -> Rows:
    """The samples ``wanted``: those of ``fresh`` from ``rows``, the others kept."""
    new = set(fresh)
    old = [position for position in wanted if position not in new]
    order = {position: place for place, position in enumerate([*old, *fresh])}
    places = torch.from_numpy(np.array([order[position] for position in wanted]))
    joined: Rows = zipped(lambda a, b: torch.cat([a, b])[places], kept.rows(old), rows)
    return joined
