"""The contract of metrics, over every one of the registry, and over some with parameters."""

import pytest

from fleetfront_testing.metrics import MetricContract, classified
from searcher.tasks.metrics.base import Metric
from searcher.tasks.metrics.registry import METRICS, named


@pytest.mark.parametrize("implementation", [METRICS.get(name) for name in METRICS.names()],
                         ids=lambda cls: cls.name)
class TestMetrics(MetricContract):
    pass


class Named(MetricContract):
    """The metric of the class attribute ``text``."""

    text: str

    @pytest.fixture
    def metric(self) -> Metric:
        return named(self.text)

    @pytest.fixture
    def implementation(self, metric: Metric) -> type[Metric]:
        return type(metric)


class TestMeanAbsoluteError(Named):
    text = "torchmetrics.MeanAbsoluteError"


class TestAuroc(Named):
    text = "torchmetrics.classification.MulticlassAUROC(num_classes=8, thresholds=20)"


class TestIgnoredPixels(Named):
    text = "mean_iou(ignore_index=255)"

    @pytest.fixture
    def data(self):
        outputs, targets = classified(size=(5, 6))
        targets[:, 0] = 255
        return outputs, targets
