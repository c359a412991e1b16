"""The metric of docs/metrics.md keeps the contract."""

import re
import sys
from pathlib import Path

import pytest

from fleetfront_testing.metrics import MetricContract, regressed
from searcher.tasks.metrics.registry import named

PAGE = Path(__file__).parents[4] / "docs" / "metrics.md"


class TestOwnMetric(MetricContract):
    @pytest.fixture
    def metric(self, tmp_path, monkeypatch):
        _, _, section = PAGE.read_text().partition("## Your own metric\n")
        code = re.search(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        (tmp_path / "tolerances.py").write_text(code[1])
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        yield named("tolerances:Within(tolerance=0.3)")
        sys.modules.pop("tolerances", None)
        named.cache_clear()

    @pytest.fixture
    def implementation(self, metric):
        return type(metric)

    @pytest.fixture
    def data(self):
        return regressed()
