"""The metrics there are: one line each, and the entry points ``fleetfront.metrics``."""

from functools import cache
from typing import TYPE_CHECKING

from searcher.entry_points import Registry

if TYPE_CHECKING:
    from searcher.tasks.metrics.base import Metric

METRICS: "Registry[Metric]" = Registry(
    "fleetfront.metrics", "metric", "searcher.tasks.metrics.base:Metric", {
        "accuracy": "searcher.tasks.metrics.accuracy:Accuracy",
    })
"""{name: place}."""


@cache
def named(name: str) -> "Metric":
    """The metric ``name``. Raises UserError."""
    made = METRICS.get(name)()
    made.text = name
    return made
