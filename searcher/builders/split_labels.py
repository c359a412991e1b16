"""The classes and groups of a split's samples, for comparisons that an average would hide."""

from typing import cast

import numpy as np
from torch import Tensor

from searcher.statistics.sample_labels import SampleLabels
from searcher.tasks.base import Task
from searcher.tasks.data.samples import Samples
from searcher.tasks.metrics import registry as metrics

BATCH = 500


def labels_of(task: Task, split: str) -> tuple[SampleLabels, ...]:
    """Classes where each target is one of them, and groups where the task names any. Raises
    TaskError."""
    samples = task.samples(split)
    found = [_classes(samples) if metrics.named(task.metric).answer != "values" else None,
             None if task.groups is None else SampleLabels.of(
                 "group", samples.groups(task.groups))]
    return tuple(labels for labels in found if labels is not None)


def _classes(samples: Samples) -> SampleLabels | None:
    targets = []
    for batch in samples.batches(BATCH):
        one = cast(object, batch.targets)
        if not isinstance(one, Tensor) or one.ndim != 1 or one.is_floating_point():
            return None
        targets.append(one.numpy())
    return SampleLabels.of("class", np.concatenate(targets)) if targets else None
