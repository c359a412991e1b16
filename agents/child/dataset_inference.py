"""In the child: a whole data set through one session, batch by batch."""

import math
from typing import Callable, List, NamedTuple

from agents.protocol import INFERRED_BYTES
from agents.runtimes.base import ModelRefused, Session
from agents.timing.dataset import Samples, SamplesError, values_of

BATCH = 100


class Inferred(NamedTuple):
    """The outputs of all samples: float32, little-endian, in C order, of ``shape``."""

    shape: List[int]
    content: bytes


def infer_all(session: Session, path: str, began: Callable[[int, int], None]) -> Inferred:
    """``began(samples so far, of)`` is called before each batch. A model with a batch of its own
    gets the last one filled up with zeros. Raises ModelRefused."""
    try:
        samples = Samples(path)
    except (SamplesError, OSError) as error:
        raise ModelRefused(str(error)) from error
    try:
        return _inferred(session, samples, began)
    finally:
        samples.close()


def _inferred(session: Session, samples: Samples, began: Callable[[int, int], None]) -> Inferred:
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
    return Inferred([of, *shape], b"".join(pieces))


def _check(content: bytes, found: List[int], full: int, shape: List[int], of: int) -> None:
    if found[:1] != [full] or found[1:] != shape:
        raise ModelRefused("For {} samples the first output has the shape {}, not ({}, {}).".format(
            full, found, full, ", ".join(map(str, shape)) or "..."))
    if len(content) // full * of > INFERRED_BYTES:
        raise ModelRefused("The outputs of {} samples have {} bytes; at most {} are sent.".format(
            of, len(content) // full * of, INFERRED_BYTES))
    if not all(map(math.isfinite, values_of(content))):
        raise ModelRefused("The outputs are not finite.")
