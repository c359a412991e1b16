"""The three splits from what the user gives; a test split that is missing is carved out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from searcher.errors import TaskError
from searcher.tasks.data.source import ArraySource, Source, part_of, source_of
from searcher.tasks.data.splits import SPLITS
from searcher.tasks.stratified_split import stratified

MOST_READ = 1000
"""Samples of a dataset that are read to learn their labels; larger splits are carved at random."""


@dataclass(frozen=True)
class Sources:
    """The three splits by name. ``carved`` says where the test split comes from when the data
    have none."""

    of: Mapping[str, Source]
    carved: str | None


def sources_of(given: Mapping[str, object], target: str | None = None) -> Sources:
    """``target`` is ``Task.target``. Raises TaskError for a split that is missing, empty or of an
    unknown name."""
    unknown = set(given) - set(SPLITS)
    if unknown:
        raise TaskError(f"load: gave the split {sorted(map(str, unknown))[0]!r}, expected "
                        f"{', '.join(SPLITS)}.")
    found = {split: source_of(split, given[split]) for split in SPLITS
             if given.get(split) is not None}
    for split in ("training", "validation"):
        if split not in found:
            raise TaskError(f"{split}: no data are given. Give Task({split}=...), or have load "
                            f"return the key {split!r}.")
        if len(found[split]) == 0:
            raise TaskError(f"{split}: it has 0 samples, expected at least 1.")
    if len(found.get("test", ())):
        return Sources(found, None)
    return _carved(found, target)


def _carved(found: Mapping[str, Source], target: str | None) -> Sources:
    whole = found["validation"]
    if len(whole) < 2:
        raise TaskError("test: no data are given, and the validation split is too small to carve "
                        f"a test split out of it ({len(whole)} sample). Give Task(test=...).")
    labels = _labels(whole, target)
    half = len(whole) // 2
    if labels is None:
        order = np.random.default_rng(0).permutation(len(whole))
        chosen = {"test": np.sort(order[:half]), "validation": np.sort(order[half:])}
    else:
        chosen = stratified(labels, {"validation": len(whole) - half, "test": half}, seed=0)
    parts = {split: part_of(whole, rows, split) for split, rows in chosen.items()}
    how = "at random" if labels is None else "with classes in equal shares"
    return Sources(
        {**found, **parts},
        f"There is no test split: {half} of the {len(whole)} validation samples are it, chosen "
        f"{how}; {len(whole) - half} remain for validation.")


def _labels(source: Source, target: str | None) -> np.ndarray | None:
    """One label per sample; None where targets are no labels, or to learn them takes too long."""
    if isinstance(source, ArraySource):
        return _as_labels(source.targets, source.rows)
    tensors = getattr(source.dataset, "tensors", None)  # of a TensorDataset
    for known in (getattr(source.dataset, "targets", None), getattr(source.dataset, "labels", None),
                  tensors[-1] if tensors else None):
        if known is not None and hasattr(known, "__len__") and len(known) == len(source.dataset):
            return _as_labels(known, source.rows)
    if len(source) > MOST_READ:
        return None
    found = [_target(source.sample(position), target) for position in range(len(source))]
    return _as_labels(found, np.arange(len(found)))


def _target(sample: Any, target: str | None) -> Any:
    if isinstance(sample, Mapping):
        return sample.get(target)
    return sample[1] if isinstance(sample, tuple | list) and len(sample) == 2 else None


def _as_labels(values: Any, rows: np.ndarray) -> np.ndarray | None:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    try:
        labels = np.asarray(values)
    except (ValueError, TypeError, RuntimeError):
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        return None
    labels = labels[rows]
    return labels if len(np.unique(labels)) <= max(len(labels) // 2, 1) else None
