"""The outputs of the uncompressed model, for metrics that compare with them."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from searcher.artifacts import arrays
from searcher.artifacts.formats import registry as formats
from searcher.artifacts.formats.base import Array, HostModel
from searcher.builders.evaluation import Face, SampledSplit, Wanted, judged_output

LARGEST_BYTES = 256 * 2**20
"""Outputs of a split that are kept in a file; larger ones are computed again for each
evaluation."""


def reference_outputs(content: Callable[[], bytes], samples: SampledSplit, split: str, face: Face,
                      folder: Path) -> Wanted:
    """The judged output of each batch of ``samples`` by the ONNX file that ``content`` gives.

    They are kept in ``folder``, one file for each split, which may be deleted at any time. Raises
    BuildError(``unloadable`` | ``outputs``).
    """
    judged = hashlib.sha256(repr(face.judged).encode()).hexdigest()[:8]
    path = folder / f"reference-{split}-{judged}.npy"
    kept = _read(path, len(samples))
    if kept is None:
        model = formats.named(formats.DEFAULT).load(content())
        kept = _computed(model, samples, face, path)
        if kept is None:
            return lambda batch: judged_output(model, batch, face)
    rows = kept
    return lambda batch: rows[batch.start:batch.start + len(batch)]


def _computed(model: HostModel, samples: SampledSplit, face: Face, path: Path) -> Array | None:
    """The outputs for all samples, from the file that they were written to; None where they are
    too large for it."""
    rows = (judged_output(model, batch, face) for batch in samples.batches(face.batch))
    first = next(rows)
    if first.nbytes // max(len(first), 1) * len(samples) > LARGEST_BYTES:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        arrays.write_batches(partial, [path.stem], len(samples), _with(first, rows))
        partial.replace(path)
        return _read(path, len(samples))
    finally:
        partial.unlink(missing_ok=True)


def _with(first: Array, rest: Iterator[Array]) -> Iterator[list[Array]]:
    yield [first]
    yield from ([one] for one in rest)


def _read(path: Path, samples: int) -> Array | None:
    with contextlib.suppress(FileNotFoundError):
        found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return found if len(found) == samples else None
    return None
