"""What every metric promises, on outputs and targets of the kind that it takes."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from searcher.statistics.score_codec import LARGEST_SCORES_BYTES
from searcher.tasks.metrics.base import Metric
from searcher.tasks.metrics.scoring import Scoring, row_bytes

Array = NDArray[Any]
Data = tuple[Array, Array]
"""Outputs (n, ...), and targets or outputs of the reference (n, ...)."""


def classified(seed: int = 0, n: int = 200, size: tuple[int, ...] = ()) -> Data:
    """Outputs (n, 8, *size) and targets (n, *size), right more often than by chance."""
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 8, (n, *size))
    outputs = draw.random((n, 8, *size)).astype(np.float32)
    outputs += 0.5 * np.moveaxis(np.eye(8, dtype=np.float32)[targets], -1, 1)
    return outputs, targets


def one_logit(seed: int = 0, n: int = 200) -> Data:
    """Outputs (n, 1) and targets (n,) of two classes."""
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 2, n)
    return (draw.normal(targets[:, None] - 0.5, 1.0).astype(np.float32)), targets


def regressed(seed: int = 0, n: int = 200) -> Data:
    """Outputs (n,) and targets (n,) of real numbers."""
    draw = np.random.default_rng(seed)
    targets = draw.standard_normal(n).astype(np.float32)
    return targets + 0.3 * draw.standard_normal(n).astype(np.float32), targets


def against_reference(seed: int = 0, n: int = 200) -> Data:
    """Outputs (n, 8) of a file and of the uncompressed model."""
    draw = np.random.default_rng(seed)
    reference = 3 * draw.standard_normal((n, 8)).astype(np.float32)
    return reference + draw.standard_normal((n, 8)).astype(np.float32), reference


def fitting(metric: Metric) -> Data:
    """The first example that ``metric`` takes."""
    examples = (against_reference(),) if metric.against == "reference" else (
        classified(), one_logit(), classified(size=(5, 6)), regressed())
    for outputs, targets in examples:
        try:
            metric.value(metric.scores(outputs, targets))
        except ValueError:
            continue
        return outputs, targets
    raise AssertionError(f"{metric.name} takes none of the examples: override the fixture data")


class MetricContract:
    """Subclass it with a fixture or parameter ``implementation``: the class of a metric; and
    override ``metric`` where it has parameters, ``data`` where no example here fits it."""

    @pytest.fixture
    def metric(self, implementation: type[Metric]) -> Metric:
        return implementation()

    @pytest.fixture
    def data(self, metric: Metric) -> Data:
        return fitting(metric)

    @pytest.fixture
    def scores(self, metric: Metric, data: Data) -> Array:
        return metric.scores(*data)

    def test_it_states_what_it_is(self, metric: Metric) -> None:
        assert metric.name and isinstance(metric.unit, str)
        assert metric.direction in ("maximize", "minimize")
        assert metric.scale is None or metric.scale > 0
        assert metric.answer in ("classes", "logit", "values")
        assert metric.against in ("targets", "reference")

    def test_one_score_per_sample(self, metric: Metric, data: Data, scores: Array) -> None:
        assert scores.ndim in (1, 2) and len(scores) == len(data[0])
        assert scores.dtype.kind in "biuf" and bool(np.isfinite(scores).all())
        assert np.array_equal(scores, metric.scores(*data))
        assert row_bytes(scores) < LARGEST_SCORES_BYTES

    def test_a_score_belongs_to_its_sample(self, metric: Metric, data: Data,
                                           scores: Array) -> None:
        outputs, targets = data
        order = np.random.default_rng(1).permutation(len(targets))
        assert np.array_equal(scores[order], metric.scores(outputs[order], targets[order]))
        assert np.array_equal(scores[:7], metric.scores(outputs[:7], targets[:7]))

    def test_the_order_of_samples_does_not_matter(self, metric: Metric, scores: Array) -> None:
        order = np.random.default_rng(2).permutation(len(scores))
        assert metric.value(scores[order]) == pytest.approx(metric.value(scores), rel=1e-6)

    def test_batches_give_the_same_value(self, metric: Metric, data: Data, scores: Array) -> None:
        kept, total = Scoring(metric, len(scores)), metric.total()
        for start in range(0, len(scores), 70):
            outputs, targets = (side[start:start + 70] for side in data)
            kept.add(outputs, targets)
            total.add(metric.scores(outputs, targets))
        assert kept.value() == metric.value(scores)
        assert total.value() == pytest.approx(metric.value(scores), rel=1e-5)

    def test_the_interval_encloses_the_value(self, metric: Metric, scores: Array) -> None:
        low, high = metric.interval(scores)
        assert low <= metric.value(scores) <= high
        fewer = metric.interval(scores[:20])
        assert high - low < fewer[1] - fewer[0], "more samples, narrower"
        wider = metric.interval(scores, 3.0)
        assert wider[0] < low and high < wider[1], "more standard deviations, wider"

    def test_the_interval_of_equal_samples_is_no_point(self, metric: Metric,
                                                       scores: Array) -> None:
        low, high = metric.interval(np.repeat(scores[:1], 50, axis=0))
        assert np.isfinite([low, high]).all() and low < high

    def test_the_difference_is_paired(self, metric: Metric, data: Data, scores: Array) -> None:
        outputs, targets = data
        worse = metric.scores(np.roll(outputs, 1, axis=0), targets)
        lost, low, high = metric.difference(scores, worse)
        assert lost == pytest.approx(metric.value(scores) - metric.value(worse))
        assert low <= lost <= high
        _, wider_low, wider_high = metric.difference(scores, worse, 3.0)
        assert wider_low < low and high < wider_high, "more standard deviations, wider"
        with pytest.raises(ValueError):
            metric.difference(scores, scores[1:])

    def test_no_difference_has_an_interval(self, metric: Metric, scores: Array) -> None:
        lost, low, high = metric.difference(scores, scores)
        assert lost == 0.0 and low < 0 < high

    def test_parts_are_rows_of_the_metric(self, metric: Metric, scores: Array) -> None:
        for name, rows in metric.parts(scores).items():
            low, high = metric.interval(rows)
            assert name and low <= metric.value(rows) <= high
            assert metric.difference(rows, rows)[0] == 0.0

    def test_outputs_that_do_not_fit_are_refused(self, metric: Metric, data: Data) -> None:
        outputs, targets = data
        with pytest.raises(ValueError):
            metric.scores(outputs[1:], targets)

    def test_outputs_that_are_not_finite_are_refused(self, metric: Metric, data: Data) -> None:
        outputs, targets = data[0].copy(), data[1]
        outputs[3] = np.nan
        scoring = Scoring(metric, 2 * len(outputs))
        scoring.add(*data)
        with pytest.raises(ValueError, match="not finite") as caught:
            scoring.add(outputs, targets)
        assert f"sample {len(outputs) + 3}:" in str(caught.value)

    def test_it_needs_neither_torch_nor_numpy_to_be_described(
            self, implementation: type[Metric]) -> None:
        code = (f"import sys, {implementation.__module__}; "
                "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))")
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
