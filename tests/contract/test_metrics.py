"""The contract of metrics, over every one of the registry."""

import pytest

from fleetfront_testing.metrics import MetricContract
from searcher.tasks.metrics.registry import METRICS


@pytest.mark.parametrize("implementation", [METRICS.get(name) for name in METRICS.names()],
                         ids=lambda cls: cls.name)
class TestMetrics(MetricContract):
    pass
