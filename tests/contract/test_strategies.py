"""The contract of strategies, over every strategy of the catalog."""

import pytest

from fleetfront_testing.strategies import StrategyContract
from strategies.catalog import all_strategies


@pytest.mark.parametrize("implementation", all_strategies(), ids=lambda cls: cls.name)
class TestStrategies(StrategyContract):
    pass
