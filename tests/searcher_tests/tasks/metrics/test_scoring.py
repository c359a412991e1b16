"""A split batch by batch: rows and an interval, or a value alone where rows are too large."""

import numpy as np
import pytest

from searcher.tasks.metrics import scoring as module
from searcher.tasks.metrics.base import Metric
from searcher.tasks.metrics.registry import named
from searcher.tasks.metrics.scoring import Scoring, row_bytes

OUTPUTS = np.random.default_rng(0).standard_normal((50, 6))
TARGETS = np.random.default_rng(1).integers(0, 6, 50)
TEXTS = ("accuracy", "balanced_accuracy", "f1_macro", "kl_divergence",
         "torchmetrics.classification.MulticlassAccuracy(num_classes=6)")


def scored(metric, outputs=OUTPUTS, wanted=TARGETS, size=17):
    scoring = Scoring(metric, len(outputs))
    for start in range(0, len(outputs), size):
        scoring.add(outputs[start:start + size], wanted[start:start + size])
    return scoring


class Given(Metric):
    """Gives the scores it is told."""

    name, unit, direction = "given", "share", "maximize"

    def __init__(self, give):
        self.give = give

    def scores(self, outputs, targets):
        return self.give(outputs)


@pytest.mark.parametrize("text", TEXTS)
def test_a_split_is_its_batches(text):
    metric = named(text)
    wanted = OUTPUTS[::-1] if metric.against == "reference" else TARGETS
    result = scored(metric, wanted=wanted).result()
    whole = metric.scores(OUTPUTS, wanted)
    assert np.array_equal(result.scores, whole) and result.scores.dtype == whole.dtype
    assert result.value == metric.value(whole)
    assert result.interval == metric.interval(whole)


@pytest.mark.parametrize("text", TEXTS)
def test_rows_that_are_too_large_leave_a_value(text, monkeypatch):
    metric = named(text)
    wanted = OUTPUTS[::-1] if metric.against == "reference" else TARGETS
    kept = scored(metric, wanted=wanted).result()
    monkeypatch.setattr(module, "LARGEST_SCORES_BYTES", 49)
    result = scored(metric, wanted=wanted).result()
    assert result.value == pytest.approx(kept.value, rel=1e-6)
    assert result.scores is None and result.interval is None


def test_pixels_without_rows(monkeypatch):
    outputs = np.random.default_rng(2).standard_normal((9, 3, 4, 4))
    targets = np.random.default_rng(3).integers(0, 3, (9, 4, 4))
    kept = scored(named("mean_iou"), outputs, targets, 4).value()
    monkeypatch.setattr(module, "LARGEST_SCORES_BYTES", 1)
    assert scored(named("mean_iou"), outputs, targets, 4).value() == kept


def test_a_metric_without_a_total_is_refused_for_large_rows(monkeypatch):
    class Median(Given):
        def value(self, scores):
            return float(np.median(scores))

    metric = Median(lambda outputs: outputs[:, 0])
    assert scored(metric).value() == np.median(OUTPUTS[:, 0])
    monkeypatch.setattr(module, "LARGEST_SCORES_BYTES", 1)
    with pytest.raises(ValueError, match=r"Median has no total\(\)"):
        scored(metric)


def test_a_sample_is_counted_from_the_start_of_the_split():
    targets = TARGETS.copy()
    targets[40] = 6
    with pytest.raises(ValueError, match="^sample 40: its target is 6; expected 0 to 5"):
        scored(named("accuracy"), wanted=targets)
    with pytest.raises(ValueError, match=r"^samples 0 to 16: outputs of shape \(17, 1\)"):
        scored(named("accuracy"), outputs=OUTPUTS[:, :1])


def test_a_split_that_is_not_complete_has_no_value():
    scoring = Scoring(named("accuracy"), 50)
    with pytest.raises(ValueError, match="0 samples were scored of a split of 50"):
        scoring.value()
    scoring.add(OUTPUTS[:20], TARGETS[:20])
    with pytest.raises(ValueError, match="20 samples were scored of a split of 50"):
        scoring.result()


@pytest.mark.parametrize(("give", "said"), [
    (lambda outputs: [1.0] * len(outputs), "gave list as scores of 17 samples"),
    (lambda outputs: outputs[1:, 0], r"gave an array of shape \(16,\)"),
    (lambda outputs: outputs[:, None, None], "expected an array"),
    (lambda outputs: outputs[:, 0].astype(str), "gave scores of type"),
    (lambda outputs: np.where(np.arange(len(outputs)) == 5, np.nan, 1.0), "sample 5: .*not finite"),
    (lambda outputs: outputs["logits"], "raised IndexError"),
    (lambda outputs: outputs.logits, "raised AttributeError"),
])
def test_a_metric_of_the_users_own_that_fails(give, said):
    with pytest.raises(ValueError, match=said):
        scored(Given(give))


def test_rows_of_different_width_are_refused():
    scoring = Scoring(Given(lambda outputs: outputs), 10)
    scoring.add(np.ones((5, 2)), np.zeros(5))
    with pytest.raises(ValueError, match="samples from 5 on"):
        scoring.add(np.ones((5, 3)), np.zeros(5))


def test_a_value_that_is_not_finite_is_refused():
    class Infinite(Given):
        def value(self, scores):
            return float("inf")

    with pytest.raises(ValueError, match="given of the whole split is inf"):
        scored(Infinite(lambda outputs: outputs[:, 0])).value()


def test_bytes_of_a_row():
    assert row_bytes(np.zeros(3, bool)) == 1
    assert row_bytes(np.zeros((3, 4), np.float32)) == 16
