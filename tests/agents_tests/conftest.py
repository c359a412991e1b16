import pytest

from tests.agents_tests.fakes import Coordinator


@pytest.fixture
def coordinator():
    one = Coordinator()
    yield one
    one.close()
