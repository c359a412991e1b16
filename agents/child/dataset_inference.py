"""Inference of a whole data set in one session, batch by batch."""

import math
from typing import Callable, List, NamedTuple

from agents.protocol import INFERRED_BYTES
from agents.runtimes.base import ModelRefused, Session
from agents.timing.dataset import Dataset, DatasetError, decode_float32

BATCH = 100


class DatasetOutputs(NamedTuple):
    """The outputs of all samples: float32, little-endian, in C order, of ``shape``."""

    shape: List[int]
    content: bytes


def infer_dataset(session: Session, path: str, began: Callable[[int, int], None]) -> DatasetOutputs:
    """The outputs of a model for the data set in ``path``.

    ``began(samples done, samples in total)`` is called before each batch. A model with a fixed
    batch gets its last batch padded with zeros. Raises ModelRefused.
    """
    try:
        samples = Dataset(path)
    except (DatasetError, OSError) as error:
        raise ModelRefused(str(error)) from error
    try:
        return _inferred(session, samples, began)
    finally:
        samples.close()


def _inferred(session: Session, samples: Dataset,
              began: Callable[[int, int], None]) -> DatasetOutputs:
    of = samples.shape[0]
    shape: List[int] = []
    pieces: List[bytes] = []
    done = 0
    for values, count in samples.batches(session.batch or BATCH):
        began(done, of)
        full = session.batch or count
        padding = bytes((full - count) * samples.sample_bytes)
        content, found = session.outputs(values + padding, [full, *samples.shape[1:]])
        shape = shape or found[1:]
        _check(content, found, full, shape, of)
        pieces.append(content[:len(content) // full * count])
        done += count
    return DatasetOutputs([of, *shape], b"".join(pieces))


def _check(content: bytes, found: List[int], full: int, shape: List[int], of: int) -> None:
    if found[:1] != [full] or found[1:] != shape:
        raise ModelRefused("For {} samples the first output has the shape {}, not ({}, {}).".format(
            full, found, full, ", ".join(map(str, shape)) or "..."))
    if len(content) // full * of > INFERRED_BYTES:
        raise ModelRefused("The outputs of {} samples have {} bytes; at most {} are sent.".format(
            of, len(content) // full * of, INFERRED_BYTES))
    if not all(map(math.isfinite, decode_float32(content))):
        raise ModelRefused("The outputs are not finite.")
