"""The suites over the entry points of installed distributions; collected by the plugin only."""

from collections.abc import Callable, Sequence
from importlib import metadata

import pytest

from fleetfront_testing.formats import FormatContract
from fleetfront_testing.metrics import MetricContract
from fleetfront_testing.plugin import OPTION
from fleetfront_testing.strategies import StrategyContract
from fleetfront_testing.worker_pools import WorkerPoolContract
from searcher.artifacts.formats.registry import FORMATS
from searcher.tasks.metrics.registry import METRICS
from searcher.workers.registry import POOLS
from strategies import catalog

Load = Callable[[str], type]
"""The class of a name, by the registry itself: what it refuses, fails here too."""

GROUPS: dict[str, Load] = {
    catalog.GROUP: catalog.strategy, FORMATS.group: FORMATS.get, METRICS.group: METRICS.get,
    POOLS.group: POOLS.get}


def offered(group: str, distributions: Sequence[str]) -> list[type]:
    """The classes that ``distributions`` offer in ``group``."""
    return [GROUPS[group](point.name) for name in distributions
            for point in metadata.distribution(name).entry_points if point.group == group]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    group = getattr(metafunc.cls, "group", None)
    if group is not None:
        found = offered(group, metafunc.config.getoption(OPTION))
        metafunc.parametrize("implementation", found, ids=[cls.__name__ for cls in found])


class TestStrategies(StrategyContract):
    group = catalog.GROUP


class TestFormats(FormatContract):
    group = FORMATS.group


class TestMetrics(MetricContract):
    group = METRICS.group


class TestWorkerPools(WorkerPoolContract):
    group = POOLS.group
