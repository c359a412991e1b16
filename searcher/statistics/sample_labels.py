"""Labels of the samples of a split: the class or the group of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["class", "group"]
MOST_NAMES = 10_000
"""More classes or groups are not kept: each would have hardly any samples."""
LARGEST_LABELS_BYTES = 2 * 2**20
"""Labels of a split that take more are not kept: scores and labels share one message."""


@dataclass(frozen=True)
class SampleLabels:
    """``codes`` (n,) has the index in ``names`` of each sample's class or group."""

    kind: Kind
    names: tuple[str, ...]
    codes: np.ndarray

    @classmethod
    def of(cls, kind: Kind, values: np.ndarray | Sequence[str]) -> "SampleLabels | None":
        """From the class (a whole number) or the group (a text) of each sample. None where there
        are more than ``MOST_NAMES``, or more bytes than ``LARGEST_LABELS_BYTES``."""
        found, codes = np.unique(np.asarray(values), return_inverse=True)
        if not 0 < len(found) <= MOST_NAMES:
            return None
        names = tuple(str(name) for name in found.tolist())
        small = codes.astype(np.min_scalar_type(len(names) - 1))
        return None if small.nbytes > LARGEST_LABELS_BYTES else cls(kind, names, small)

    def samples(self) -> dict[str, np.ndarray]:
        """Indices of the samples of each class or group that has any, by name."""
        order = np.argsort(self.codes, kind="stable")
        codes, starts = np.unique(self.codes[order], return_index=True)
        return dict(zip((self.names[code] for code in codes.tolist()),
                        np.split(order, starts[1:]), strict=True))
