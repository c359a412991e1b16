"""The task's metric of the exported file itself: computed on the host, or by a device's outputs."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from searcher.artifacts.formats import registry as formats
from searcher.artifacts.formats.base import Array
from searcher.errors import BuildError
from searcher.statistics.sample_labels import SampleLabels
from searcher.tasks.metrics import registry as metrics

BATCH = 100


@dataclass(frozen=True)
class Evaluation:
    """``scores`` holds the metric's row of each sample of the split, in order, (n,) or (n, width).
    ``labels`` are the classes or groups of the samples, None where they are not known."""

    metric: str
    scores: Array
    labels: tuple[SampleLabels, ...] | None = None

    @property
    def n(self) -> int:
        return len(self.scores)

    @property
    def value(self) -> float:
        return metrics.named(self.metric).value(self.scores)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ``value``."""
        return metrics.named(self.metric).interval(self.scores)


def evaluate(content: bytes | Path, inputs: Array, targets: Array, metric: str = "accuracy",
             file_format: str = formats.DEFAULT) -> Evaluation:
    """A file over ``inputs`` (n, *shape) float32, in batches of 100. Raises
    BuildError(``unloadable`` | ``outputs``), UserError for an unknown metric or format."""
    found = metrics.named(metric)
    model = formats.named(file_format).load(content)
    name = model.inputs[0].name
    outputs = [model.run({name: inputs[start:start + BATCH]})
               for start in range(0, len(inputs), BATCH)]
    try:
        return Evaluation(metric, found.scores(np.concatenate(outputs), targets))
    except ValueError as error:
        raise BuildError(str(error), "outputs") from error


def score_outputs(outputs: Path, targets: Array, metric: str = "accuracy") -> Evaluation:
    """Outputs that were computed elsewhere: (n, ...) in a .npy file, one per target. Raises
    BuildError(``outputs``), UserError for an unknown metric."""
    found = metrics.named(metric)
    try:
        computed = np.load(outputs, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BuildError(f"The outputs cannot be read: {error}", "outputs") from error
    try:
        return Evaluation(metric, found.scores(computed, targets))
    except ValueError as error:
        raise BuildError(str(error), "outputs") from error


def probe_input(shape: Sequence[int | str | None], seed: int = 0, batch: int = 1) -> Array:
    """The input that devices time and answer: ``random.Random(seed).random()`` in C order;
    symbolic dimensions become ``batch``. The same rule as ``agents/runtimes/base.py``."""
    sizes = [size if isinstance(size, int) and size > 0 else batch for size in shape]
    draw = random.Random(seed).random
    return np.array([draw() for _ in range(int(np.prod(sizes)))], np.float32).reshape(sizes)


def probe_outputs(content: bytes, file_format: str = formats.DEFAULT, seed: int = 0,
                  most: int = 1024) -> list[float]:
    """The first output of the host for the probe input, flattened, at most ``most`` values.
    Raises BuildError(``unloadable``), UserError for an unknown format."""
    model = formats.named(file_format).load(content)
    feeds = {i.name: probe_input(i.shape, seed) for i in model.inputs}
    return [float(v) for v in model.run(feeds).ravel()[:most]]
