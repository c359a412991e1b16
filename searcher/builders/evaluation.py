"""The task's metric of the exported file itself: computed on the host, or by a device's outputs.

    samples --> the file, by name of its inputs --> outputs by name --> the judged one --> Scoring
                                                    targets, or outputs of the reference ----^

A split is never in memory as a whole.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from searcher.artifacts import arrays
from searcher.artifacts.formats import registry as formats
from searcher.artifacts.formats.base import Array, HostModel
from searcher.errors import BuildError
from searcher.tasks.data.splits import SampleBatch
from searcher.tasks.metrics import registry as metrics
from searcher.tasks.metrics.scoring import Scoring
from strategies.tensor_trees import mapped

BATCH = 100
BATCH_BYTES = 16 * 2**20
"""Inputs of one batch; samples of more bytes come in batches of fewer than ``BATCH``."""


class SampledSplit(Protocol):
    """A split of a task (``searcher.tasks.data.samples.Samples``)."""

    def __len__(self) -> int: ...

    def batches(self, size: int) -> Iterator[SampleBatch]: ...


@dataclass(frozen=True)
class Face:
    """What a file's inputs are called, in the order of a sample's inputs, and the output that the
    metric judges. Empty and None: those of the file in its order, and its first output. ``batch``
    is the number of samples that it takes at a time."""

    inputs: Sequence[str] = ()
    judged: str | None = None
    batch: int = BATCH


def batch_of(sample_bytes: int) -> int:
    """The number of samples at a time, for inputs of ``sample_bytes`` each."""
    return max(min(BATCH, BATCH_BYTES // max(sample_bytes, 1)), 1)


@dataclass(frozen=True)
class Evaluation:
    """The metric of a file on a split of ``n`` samples. ``scores`` has the metric's row of each
    sample in order, (n,) or (n, width), and ``interval`` is the 95 % interval of ``value``; both
    are None where the rows are too large to be kept."""

    metric: str
    value: float
    n: int
    scores: Array | None
    interval: tuple[float, float] | None


Wanted = Callable[[SampleBatch], Any]
"""What the outputs of a batch are compared with, as arrays."""


def targets_of(batch: SampleBatch) -> Any:
    """The targets of a batch, as arrays in the structure that the data give."""
    return mapped(array_of, batch.targets)


def array_of(tensor: Tensor) -> Array:
    """A tensor as an array; bfloat16, which numpy does not have, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.element_size() == 2 and tensor.is_floating_point()
            else tensor).numpy()


def evaluate(content: bytes | Path, samples: SampledSplit, metric: str = "accuracy",
             face: Face = Face(), file_format: str = formats.DEFAULT,
             wanted: Wanted = targets_of) -> Evaluation:
    """The metric of a file over ``samples``. Raises BuildError(``unloadable`` | ``outputs``), whose
    text names the sample, UserError for an unknown metric or format."""
    found = metrics.named(metric)
    model = formats.named(file_format).load(content)
    rows = ((batch, judged_output(model, batch, face)) for batch in samples.batches(face.batch))
    return _scored(found.text, len(samples), rows, wanted)


def score_outputs(outputs: Path, samples: SampledSplit, metric: str = "accuracy",
                  face: Face = Face(), wanted: Wanted = targets_of) -> Evaluation:
    """The metric of outputs that were computed elsewhere: a file of arrays (``artifacts.arrays``)
    with one row per sample. Raises BuildError(``outputs``), UserError for an unknown metric."""
    found = metrics.named(metric)
    try:
        computed = arrays.read(outputs)
    except (OSError, ValueError, EOFError) as error:
        raise BuildError(f"The outputs cannot be read: {error}", "outputs") from error
    array = computed.get(arrays.ONLY)
    if array is None:
        array = _judged(computed, face.judged)
    if len(array) != len(samples):
        raise BuildError(f"The outputs have {len(array)} rows for a split of {len(samples)} "
                         "samples.", "outputs")
    rows = ((batch, array[batch.start:batch.start + len(batch)])
            for batch in samples.batches(face.batch))
    return _scored(found.text, len(samples), rows, wanted)


def judged_output(model: HostModel, batch: SampleBatch, face: Face) -> Array:
    """What the metric judges of a loaded file's outputs for a batch, float16 as float32. Raises
    BuildError(``outputs``)."""
    return _judged(model.run(_feeds(model, batch, face.inputs)), face.judged)


def _judged(outputs: Mapping[str, Array], name: str | None) -> Array:
    if name is not None and name not in outputs:
        raise BuildError(f"The file has no output {name!r}, which the metric judges; it has "
                         f"{', '.join(outputs)}.", "outputs")
    output = next(iter(outputs.values())) if name is None else outputs[name]
    return output.astype(np.float32) if output.dtype == np.float16 else output


def _feeds(model: HostModel, batch: SampleBatch, names: Sequence[str]) -> dict[str, Array]:
    inputs = [one.name for one in model.inputs]
    if len(inputs) != len(batch.inputs):
        raise BuildError(f"The file has {len(inputs)} inputs ({', '.join(inputs)}), a sample has "
                         f"{len(batch.inputs)}.", "outputs")
    # A format may have names of its own; then the order counts.
    order = names if set(names) == set(inputs) else inputs
    feeds = {name: tensor.numpy() for name, tensor in zip(order, batch.inputs, strict=True)}
    for one in model.inputs:
        if feeds[one.name].dtype != one.dtype:
            raise BuildError(f"The input {one.name!r} of the file is {one.dtype}, the samples have "
                             f"{feeds[one.name].dtype}.", "outputs")
    return feeds


def _scored(metric: str, n: int, rows: Iterator[tuple[SampleBatch, Array]],
            wanted: Wanted) -> Evaluation:
    scoring = Scoring(metrics.named(metric), n)
    try:
        for batch, outputs in rows:
            _check(batch, outputs)
            scoring.add(outputs, wanted(batch))
        found = scoring.result()
    except ValueError as error:
        raise BuildError(f"The metric {metric} does not fit the outputs of the file: {error}",
                         "outputs") from error
    return Evaluation(metric, found.value, n, found.scores, found.interval)


def _check(batch: SampleBatch, outputs: Array) -> None:
    if outputs.ndim == 0 or len(outputs) != len(batch):
        raise BuildError(f"The output that the metric judges has the shape {outputs.shape} for "
                         f"{len(batch)} samples; it must have one row for each.", "outputs")
    if outputs.dtype.kind == "f":
        bad = np.flatnonzero(np.isnan(outputs.reshape(len(batch), -1)).any(axis=1))
        if len(bad):
            raise BuildError(f"The output that the metric judges is NaN for sample "
                             f"{batch.start + bad[0]}.", "outputs")
