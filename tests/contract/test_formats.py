"""The contract of file formats, over every one of the registry."""

import pytest

from fleetfront_testing.formats import FormatContract
from searcher.artifacts.formats.registry import FORMATS


@pytest.mark.parametrize("implementation", [FORMATS.get(name) for name in FORMATS.names()],
                         ids=lambda cls: cls.name)
class TestFormats(FormatContract):
    pass
