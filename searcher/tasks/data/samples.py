"""One split, read when it is needed, batch by batch."""

from collections.abc import Iterable, Iterator, Sequence

import torch

from searcher.tasks.data.element_types import as_input, as_target
from searcher.tasks.data.layout import Layout
from searcher.tasks.data.source import Rows, Source
from searcher.tasks.data.splits import SampleBatch
from strategies.tensor_trees import mapped


class Samples:
    """The samples of one split in their order. ``precision`` is the model's floating point type.

    Reading raises TaskError that names the split and the sample where the user's data are wrong.
    """

    def __init__(self, source: Source, layout: Layout, precision: torch.dtype) -> None:
        self._source, self._layout, self._precision = source, layout, precision

    def __len__(self) -> int:
        return len(self._source)

    def batches(self, size: int) -> Iterator[SampleBatch]:
        """All samples in order, ``size`` at a time, read as they are asked for."""
        plan = [range(start, min(start + size, len(self))) for start in range(0, len(self), size)]
        for positions, (inputs, targets) in zip(plan, self.stream(plan), strict=True):
            yield SampleBatch(inputs, targets, positions.start)

    def stream(self, plan: Iterable[Sequence[int]], seed: int = 0, number: int = 0
               ) -> Iterator[Rows]:
        """The samples at each of the positions of ``plan``. A dataset that draws random numbers
        draws the same for the same ``seed``, ``number`` and sample."""
        for positions in plan:
            inputs, targets = self._source.read(positions, self._layout, seed, number)
            yield (tuple(as_input(tensor, self._precision) for tensor in inputs),
                   mapped(lambda tensor: as_target(tensor, self._precision), targets))
