"""Labels of the samples of a split: the class or the group of each."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["class", "group"]
MOST_NAMES = 10_000
"""More classes or groups than this are not stored: each would have hardly any samples."""


@dataclass(frozen=True)
class SampleLabels:
    """``codes`` (n,) has the index in ``names`` of each sample's class or group."""

    kind: Kind
    names: tuple[str, ...]
    codes: np.ndarray

    @classmethod
    def of(cls, kind: Kind, names: tuple[str, ...], codes: np.ndarray) -> "SampleLabels":
        """With ``codes`` in the smallest type. Raises ValueError for a code without a name."""
        if codes.ndim != 1 or codes.dtype.kind not in "iu" or not len(codes):
            raise ValueError(f"codes of shape {codes.shape} and type {codes.dtype} must be whole "
                             "numbers of shape (n,)")
        if not len(names) <= MOST_NAMES or codes.min() < 0 or codes.max() >= len(names):
            raise ValueError(f"codes from {codes.min()} to {codes.max()} do not fit {len(names)} "
                             f"names, of which {MOST_NAMES} are allowed")
        return cls(kind, tuple(names), codes.astype(np.min_scalar_type(len(names) - 1)))

    def samples(self) -> dict[str, np.ndarray]:
        """Indices of the samples of each class or group that has any, by name."""
        return {self.names[code]: np.flatnonzero(self.codes == code)
                for code in np.unique(self.codes).tolist()}
