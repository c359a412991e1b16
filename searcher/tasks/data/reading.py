"""Samples of a split, read in this process or by processes of a DataLoader, in the order asked."""

import pickle
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from searcher.errors import TaskError
from searcher.tasks.data.layout import Layout
from searcher.tasks.data.source import ArraySource, Rows, Source
from searcher.tasks.user_code import raised, user_code


@dataclass(frozen=True)
class SampleRequest:
    """Samples to read. Random numbers of the user's code follow from ``seed`` and ``number``."""

    positions: Sequence[int]
    seed: int
    number: int


class Reader:
    """Reads ``source`` by ``workers`` processes, or in this one for 0. With ``keeps_workers`` the
    processes stay between two streams. The rows do not depend on the number of processes."""

    def __init__(self, source: Source, layout: Layout, workers: int, keeps_workers: bool) -> None:
        self._source, self._layout = source, layout
        self._workers = 0 if isinstance(source, ArraySource) else workers
        self._keeps_workers = keeps_workers
        self._kept: tuple[DataLoader[Any], list[SampleRequest]] | None = None

    def stream(self, requests: Sequence[SampleRequest]) -> Iterator[Rows]:
        """The rows of each request, in order. Raises TaskError."""
        if self._workers == 0 or not requests:
            for request in requests:
                yield self._source.read(request.positions, self._layout, request.seed,
                                        request.number)
            return
        loader, asked = self._kept or self._started()
        self._kept = None  # another stream that begins before this one ends has its own processes
        asked[:] = requests
        yield from self._received(loader)
        if self._keeps_workers:
            self._kept = loader, asked

    def _received(self, loader: "DataLoader[Any]") -> Iterator[Rows]:
        split = self._source.split
        with user_code(f"{split}: the {self._workers} processes that read samples",
                       "Set workers=0 to read them in the builder's own process."):
            answers = iter(loader)
        while True:
            try:
                answer = next(answers)
            except StopIteration:
                return
            except RuntimeError as error:
                raise TaskError(
                    f"{split}: a process that reads samples ended: {raised(error)} Lack of memory, "
                    "also of /dev/shm, is the usual reason. Use fewer workers, or workers=0."
                ) from error
            if isinstance(answer, _Failure):
                raise TaskError(answer.message) from answer.cause
            yield answer

    def _started(self) -> "tuple[DataLoader[Any], list[SampleRequest]]":
        """A loader, and the list of requests that it reads."""
        asked: list[SampleRequest] = []
        options = {} if isinstance(self._source, ArraySource) else {
            "worker_init_fn": self._source.worker_init,
            "multiprocessing_context": self._source.context}
        # A generator of its own: the loader would draw from the builder's.
        loader = DataLoader(
            _Requested(self._source, self._layout), batch_size=None, sampler=asked,
            num_workers=self._workers, collate_fn=_unchanged, generator=torch.Generator(),
            persistent_workers=self._keeps_workers, **options)
        return loader, asked


class _Requested(Dataset[Any]):
    """Gives rows for a request; runs in the processes of a DataLoader."""

    def __init__(self, source: Source, layout: Layout) -> None:
        self._source, self._layout = source, layout

    def __getitem__(self, request: SampleRequest) -> "Rows | _Failure":
        try:
            return self._source.read(request.positions, self._layout, request.seed,
                                     request.number)
        except TaskError as error:
            return _Failure.of(error)


@dataclass(frozen=True)
class _Failure:
    """A TaskError on its way between processes."""

    message: str
    cause: BaseException | None

    @classmethod
    def of(cls, error: TaskError) -> "_Failure":
        """The cause itself, or its text where it cannot be pickled."""
        cause = error.__cause__
        try:
            pickle.loads(pickle.dumps(cause))  # noqa: S301  what this process has pickled
        except Exception:  # noqa: BLE001  a user's exception may fail in any way
            cause = RuntimeError("".join(traceback.format_exception(cause)))
        return cls(str(error), cause)


def _unchanged(rows: Any) -> Any:
    return rows
