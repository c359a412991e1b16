"""The probe: one input that devices time and answer, so that their outputs can be compared with the
host's."""

import random
from collections.abc import Sequence

import numpy as np

from agents.protocol import OUTPUT_LIMIT
from searcher.artifacts.formats import registry as formats
from searcher.artifacts.formats.base import Array

NUMBERS = "biuf"
"""numpy's kinds of the outputs that are compared."""


def probe_input(shape: Sequence[int | str | None], seed: int = 0, batch: int = 1,
                dtype: str = "float32") -> Array:
    """``random.Random(seed).random()`` in C order, as float32; of integers and booleans 1 where
    that is at least 0.5, else 0, which every vocabulary and mask has. Symbolic dimensions become
    ``batch``. The same rule as ``agents/runtimes/base.py``."""
    sizes = [size if isinstance(size, int) and size > 0 else batch for size in shape]
    draw = random.Random(seed).random
    drawn = np.array([draw() for _ in range(int(np.prod(sizes)))]).reshape(sizes)
    if np.dtype(dtype).kind != "f":
        return (drawn >= 0.5).astype(dtype)
    return drawn.astype(np.float32).astype(dtype)


def probe_outputs(content: bytes, file_format: str = formats.DEFAULT, seed: int = 0,
                  most: int = OUTPUT_LIMIT) -> list[float]:
    """The host's outputs for the probe input, in the order of the file, each flattened in C order,
    together at most ``most`` values. Outputs that are no numbers are left out. Raises
    BuildError(``unloadable`` | ``outputs``), UserError for an unknown format."""
    model = formats.named(file_format).load(content)
    feeds = {i.name: probe_input(i.shape, seed, dtype=i.dtype) for i in model.inputs}
    found: list[float] = []
    for output in model.run(feeds).values():
        if output.dtype.kind in NUMBERS:
            found += [float(value) for value in output.ravel()[:most - len(found)]]
    return found
