"""What every metric promises, on outputs and targets of a classification."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from searcher.tasks.metrics.base import Metric

Array = NDArray[Any]


def classified(seed: int = 0, n: int = 200) -> tuple[Array, Array]:
    """Outputs (n, 4) and targets (n,), right more often than by chance."""
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 4, n)
    outputs = draw.random((n, 4)).astype(np.float32)
    outputs[np.arange(n), targets] += 0.5
    return outputs, targets


class MetricContract:
    """Subclass it with a fixture or parameter ``implementation``: the class of a metric; and
    override ``data`` where it is not for classification."""

    @pytest.fixture
    def metric(self, implementation: type[Metric]) -> Metric:
        return implementation()

    @pytest.fixture
    def data(self) -> tuple[Array, Array]:
        return classified()

    def test_it_states_what_it_is(self, metric: Metric) -> None:
        assert metric.name and metric.unit and metric.direction in ("maximize", "minimize")

    def test_one_score_per_sample(self, metric: Metric, data: tuple[Array, Array]) -> None:
        outputs, targets = data
        scores = metric.scores(outputs, targets)
        assert scores.shape == (len(targets),) and bool(np.isfinite(scores).all())
        assert np.array_equal(scores, metric.scores(outputs, targets))

    def test_a_score_belongs_to_its_sample(self, metric: Metric,
                                           data: tuple[Array, Array]) -> None:
        outputs, targets = data
        order = np.random.default_rng(1).permutation(len(targets))
        assert np.array_equal(metric.scores(outputs, targets)[order],
                              metric.scores(outputs[order], targets[order]))

    def test_the_interval_encloses_the_value(self, metric: Metric,
                                             data: tuple[Array, Array]) -> None:
        scores = metric.scores(*data)
        low, high = metric.interval(scores)
        assert low <= metric.value(scores) <= high
        fewer = metric.interval(scores[:20])
        assert high - low < fewer[1] - fewer[0], "more samples, narrower"

    def test_the_difference_is_paired(self, metric: Metric, data: tuple[Array, Array]) -> None:
        outputs, targets = data
        scores = metric.scores(outputs, targets)
        worse = metric.scores(np.roll(outputs, 1, axis=0), targets)
        lost, low, high = metric.difference(scores, worse)
        assert lost == pytest.approx(metric.value(scores) - metric.value(worse))
        assert low <= lost <= high
        assert metric.difference(scores, scores)[0] == 0.0
        with pytest.raises(ValueError):
            metric.difference(scores, scores[1:])

    def test_outputs_that_do_not_fit_are_refused(self, metric: Metric,
                                                 data: tuple[Array, Array]) -> None:
        outputs, targets = data
        with pytest.raises(ValueError):
            metric.scores(outputs[1:], targets)

    def test_it_needs_neither_torch_nor_numpy_to_be_described(
            self, implementation: type[Metric]) -> None:
        code = (f"import sys, {implementation.__module__}; "
                "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))")
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
