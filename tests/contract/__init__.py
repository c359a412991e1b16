import pytest

pytest.register_assert_rewrite("fleetfront_testing.meters", "fleetfront_testing.runtimes")
