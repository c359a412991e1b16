"""Metrics of torchmetrics: the same value, intervals by resampling, and plain errors."""

import numpy as np
import pytest
import torch
import torchmetrics

from searcher.tasks.metrics.registry import named

DRAW = np.random.default_rng(0)
TARGETS = DRAW.integers(0, 3, 120)
LOGITS = (DRAW.standard_normal((120, 3)) + np.eye(3)[TARGETS]).astype(np.float32)
NUMBERS = DRAW.standard_normal(120).astype(np.float32)
ESTIMATES = NUMBERS + 0.2 * DRAW.standard_normal(120).astype(np.float32)


def test_a_regression():
    metric = named("torchmetrics.MeanAbsoluteError")
    assert (metric.name, metric.direction, metric.unit, metric.scale, metric.answer) == (
        "MeanAbsoluteError", "minimize", "", None, "values")
    expected = torchmetrics.MeanAbsoluteError()(
        torch.from_numpy(ESTIMATES), torch.from_numpy(NUMBERS))
    for outputs in (ESTIMATES, ESTIMATES[:, None]):  # (n, 1) answers (n,)
        rows = metric.scores(outputs, NUMBERS)
        assert rows.dtype == np.float32 and metric.value(rows) == float(expected)


@pytest.mark.parametrize("kind", ["int32", "uint8", "float32", "int64"])
def test_a_classification(kind):
    metric = named("torchmetrics.classification.MulticlassAUROC(num_classes=3)")
    assert (metric.direction, metric.scale) == ("maximize", 1.0)
    expected = torchmetrics.classification.MulticlassAUROC(num_classes=3)(
        torch.from_numpy(LOGITS), torch.from_numpy(TARGETS))
    assert metric.value(metric.scores(LOGITS, TARGETS.astype(kind))) == float(expected)


def test_pixels_keep_their_shape():
    targets = DRAW.integers(0, 4, (5, 6, 7))
    outputs = DRAW.standard_normal((5, 4, 6, 7)).astype(np.float32)
    metric = named("torchmetrics.classification.MulticlassJaccardIndex(num_classes=4)")
    expected = torchmetrics.classification.MulticlassJaccardIndex(num_classes=4)(
        torch.from_numpy(outputs), torch.from_numpy(targets))
    assert metric.value(metric.scores(outputs, targets)) == pytest.approx(float(expected))


def test_large_whole_numbers_are_kept():
    metric = named("torchmetrics.MeanAbsoluteError")
    targets = np.array([2**24, 2**24 + 1])
    rows = metric.scores(targets + np.array([0.0, 1.0]), targets)
    assert rows.dtype == np.float64 and metric.value(rows) == 0.5


def test_the_direction_may_be_given():
    assert named("torchmetrics.PearsonCorrCoef(direction='maximize')").direction == "maximize"


def test_the_bootstrap_is_deterministic_and_knows_bounds():
    metric = named("torchmetrics.classification.MulticlassAUROC(num_classes=3)")
    rows = metric.scores(LOGITS, TARGETS)
    assert metric.interval(rows) == metric.interval(rows)
    perfect = metric.scores(10 * np.eye(3)[TARGETS], TARGETS)
    low, high = metric.interval(perfect)
    assert low < 1.0 == high
    lost, below, above = metric.difference(perfect, rows)
    assert 0 < below < lost < above


def test_a_rare_class_that_is_not_drawn_leaves_an_interval():
    metric = named("torchmetrics.classification.BinaryAUROC")
    targets = np.array([1] + [0] * 29)
    low, high = metric.interval(metric.scores(np.linspace(1, -1, 30), targets))
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize(("text", "outputs", "targets", "said"), [
    ("torchmetrics.classification.MulticlassRecall(num_classes=3, average=None)", LOGITS, TARGETS,
     "gives 3 numbers; a task is judged by one"),
    ("torchmetrics.MeanAbsoluteError", LOGITS, TARGETS,
     r"does not take outputs of shape \(120, 3\).*targets of shape \(120,\)"),
    ("torchmetrics.classification.BinaryAUROC", ESTIMATES, NUMBERS, "sample 0: .*whole numbers"),
    ("torchmetrics.MeanAbsoluteError", ESTIMATES, NUMBERS * np.nan, "not finite"),
    ("torchmetrics.MeanAbsoluteError", ESTIMATES, NUMBERS.astype(str), "targets have type"),
    ("torchmetrics.text.WordErrorRate", ESTIMATES, NUMBERS, "does not take"),
])
def test_what_does_not_fit(text, outputs, targets, said):
    metric = named(text)
    with pytest.raises(ValueError, match=said):
        metric.value(metric.scores(outputs, targets))
