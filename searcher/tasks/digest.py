"""The digest of a task: what builds depend on."""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searcher.tasks.base import Task


def digest_of(task: "Task") -> str:
    """sha256 over configuration, and ``Task.identity``."""
    document = [task.name, dict(task.identity or {}), dict(task.epochs), task.metric,
                task.batch_size, task.epoch_samples, task.augmented_epochs,
                task.longest_full, repr(task.baseline)]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
