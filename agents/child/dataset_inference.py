"""Inference of a whole data set in one session, batch by batch."""

import math
from typing import Callable, Dict, List, Mapping, Sequence

from agents.protocol import INFERRED_BYTES
from agents.runtimes.base import ModelRefused, Session
from agents.timing.arrays import FLOAT32, KIND_BYTES, Values, decode_float32, product
from agents.timing.dataset import Dataset, DatasetError

BATCH = 100


def infer_dataset(session: Session, path: str, wanted: Sequence[str],
                  began: Callable[[int, int], None]) -> Dict[str, Values]:
    """The outputs of a model for the data set in ``path``, by name, samples first.

    ``wanted`` names the outputs; none: all that have one row per sample. ``began(samples done,
    samples in total)`` is called before each batch. A model with a fixed batch gets its last batch
    padded with zeros. Raises ModelRefused.
    """
    try:
        samples = Dataset(path)
    except (DatasetError, OSError) as error:
        raise ModelRefused(str(error)) from error
    try:
        return _inferred(session, samples, wanted, began)
    except DatasetError as error:
        raise ModelRefused(str(error)) from error
    finally:
        samples.close()


def _inferred(session: Session, samples: Dataset, wanted: Sequence[str],
              began: Callable[[int, int], None]) -> Dict[str, Values]:
    first: Dict[str, Values] = {}
    pieces: Dict[str, List[bytes]] = {}
    done = 0
    for feeds, count in samples.batches(session.batch or BATCH):
        began(done, samples.samples)
        full = session.batch or count
        found = session.outputs({name: _filled(values, full) for name, values in feeds.items()})
        if not first:
            first = _chosen(found, wanted, full)
            _check_size(first, full, samples.samples)
        for name, like in first.items():
            content = _rows(name, found, like, full)
            pieces.setdefault(name, []).append(content[:len(content) // full * count])
        done += count
    return {name: Values(like.kind, [samples.samples] + like.shape[1:], b"".join(pieces[name]))
            for name, like in first.items()}


def _filled(values: Values, full: int) -> Values:
    """``values`` with zeros for the samples that are missing in a batch of ``full``."""
    missing = (full - values.shape[0]) * product(values.shape[1:]) * KIND_BYTES[values.kind]
    return Values(values.kind, [full] + values.shape[1:], values.content + bytes(missing))


def _chosen(found: Mapping[str, Values], wanted: Sequence[str], full: int) -> Dict[str, Values]:
    """The outputs to answer. Raises ModelRefused."""
    absent = [name for name in wanted if name not in found]
    if absent:
        raise ModelRefused("The model has no output {!r}, only {}.".format(
            absent[0], ", ".join(map(repr, found))))
    chosen = {name: one for name, one in found.items()
              if name in wanted or not wanted and one.shape[:1] == [full]}
    if not chosen:
        raise ModelRefused("None of the outputs has one row per sample: for {} samples they have "
                           "the shapes {}.".format(full, ", ".join(
                               "{} of {!r}".format(one.shape, name)
                               for name, one in found.items())))
    return chosen


def _check_size(first: Mapping[str, Values], full: int, of: int) -> None:
    size = sum(len(one.content) for one in first.values()) // full * of
    if size > INFERRED_BYTES:
        raise ModelRefused(
            "The outputs {} of {} samples have {} bytes; at most {} are sent.".format(
                ", ".join(map(repr, first)), of, size, INFERRED_BYTES))


def _rows(name: str, found: Mapping[str, Values], like: Values, full: int) -> bytes:
    """The values of one output. Raises ModelRefused."""
    one = found.get(name)
    shape = [full] + like.shape[1:]
    if one is None or one.shape != shape or one.kind != like.kind:
        raise ModelRefused("For {} samples the output {!r} is {}, not {} of the shape {}.".format(
            full, name, "missing" if one is None else "{} of the shape {}".format(*one[:2]),
            like.kind, shape))
    if one.kind == FLOAT32 and not all(map(math.isfinite, decode_float32(one.content))):
        raise ModelRefused("The output {!r} is not finite.".format(name))
    return one.content
