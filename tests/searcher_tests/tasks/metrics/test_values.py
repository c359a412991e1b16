"""Right values: scikit-learn's and scipy's on random data, and by hand at the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import entropy
from sklearn import metrics as sklearn

from searcher.tasks.metrics.registry import METRICS, named

LABEL_TYPES = ("int8", "uint8", "int16", "int32", "uint32", "int64", "float32", "float64")


def value(text, outputs, targets):
    metric = named(text)
    return metric.value(metric.scores(np.asarray(outputs), np.asarray(targets)))


def drawn(seed, n=300, classes=7):
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, classes - 1, n)  # the last class occurs in predictions only
    return draw.standard_normal((n, classes)) + 1.5 * np.eye(classes)[targets], targets


def pixels(seed, n=6, classes=4, size=(9, 7)):
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, classes - 1, (n, *size))
    return draw.standard_normal((n, classes, *size)) + np.moveaxis(
        np.eye(classes)[targets], -1, 1), targets


@pytest.mark.parametrize("seed", range(3))
class TestAsOtherLibraries:
    def test_accuracy(self, seed):
        outputs, targets = drawn(seed)
        assert value("accuracy", outputs, targets) == pytest.approx(
            sklearn.accuracy_score(targets, outputs.argmax(1)))

    def test_top5(self, seed):
        outputs, targets = drawn(seed, classes=11)
        assert value("accuracy_top5", outputs, targets) == pytest.approx(
            sklearn.top_k_accuracy_score(targets, outputs, k=5, labels=range(11)))

    def test_balanced_accuracy(self, seed):
        outputs, targets = drawn(seed)
        targets[targets == 2] = 3  # a class that does not occur
        with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
            expected = sklearn.balanced_accuracy_score(targets, outputs.argmax(1))
        assert value("balanced_accuracy", outputs, targets) == pytest.approx(expected)

    def test_f1(self, seed):
        outputs, targets = drawn(seed)
        assert value("f1_macro", outputs, targets) == pytest.approx(sklearn.f1_score(
            targets, outputs.argmax(1), average="macro", zero_division=0))

    def test_f1_of_each_class(self, seed):
        outputs, targets = drawn(seed)
        metric = named("f1_macro")
        parts = metric.parts(metric.scores(outputs, targets))
        expected = sklearn.f1_score(targets, outputs.argmax(1), average=None, zero_division=0)
        assert list(parts) == [f"class {label}" for label in range(6)]
        assert [metric.value(rows) for rows in parts.values()] == pytest.approx(expected[:6])

    def test_mean_iou(self, seed):
        outputs, targets = pixels(seed)
        found = outputs.argmax(1).ravel()
        assert value("mean_iou", outputs, targets) == pytest.approx(
            sklearn.jaccard_score(targets.ravel(), found, average="macro"))
        metric = named("mean_iou")
        parts = metric.parts(metric.scores(outputs, targets))
        assert [metric.value(rows) for rows in parts.values()] == pytest.approx(
            sklearn.jaccard_score(targets.ravel(), found, average=None))

    def test_mean_iou_of_pixels_that_count(self, seed):
        outputs, targets = pixels(seed)
        targets[:, :3] = 255
        counted = targets != 255
        assert value("mean_iou(ignore_index=255)", outputs, targets) == pytest.approx(
            sklearn.jaccard_score(
                targets[counted], outputs.argmax(1)[counted], average="macro"))

    def test_mean_iou_of_one_channel(self, seed):
        outputs, targets = pixels(seed, classes=3)
        logit = outputs[:, 1:2] - outputs[:, :1]
        assert value("mean_iou", logit, targets) == pytest.approx(sklearn.jaccard_score(
            targets.ravel(), (logit > 0).ravel(), average="macro"))

    def test_kl_divergence(self, seed):
        (outputs, _), (reference, _) = drawn(seed), drawn(seed + 100)
        expected = entropy(softmax(reference, 1), softmax(outputs, 1), axis=1).mean()
        assert value("kl_divergence", outputs, reference) == pytest.approx(expected, rel=1e-6)

    def test_kl_divergence_of_one_logit(self, seed):
        outputs, reference = np.random.default_rng(seed).standard_normal((2, 50, 1))
        pairs = [np.concatenate([1 - expit(x), expit(x)], axis=1) for x in (reference, outputs)]
        expected = entropy(*pairs, axis=1).mean()
        assert value("kl_divergence", outputs, reference) == pytest.approx(expected, rel=1e-6)
        assert value("kl_divergence", outputs[:, 0], reference[:, 0]) == pytest.approx(
            expected, rel=1e-6)

    def test_output_cosine(self, seed):
        one, other = np.random.default_rng(seed).standard_normal((2, 40, 3, 5))
        expected = np.mean([np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
                            for a, b in zip(one, other, strict=True)])
        assert value("output_cosine", one, other) == pytest.approx(expected, rel=1e-6)

    def test_agreement_of_pixels(self, seed):
        (outputs, _), (reference, _) = pixels(seed), pixels(seed + 50)
        expected = (outputs.argmax(1) == reference.argmax(1)).mean()
        assert value("agreement", outputs, reference) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", LABEL_TYPES)
def test_targets_of_any_type(kind):
    outputs, targets = drawn(1)
    assert value("accuracy", outputs, targets.astype(kind)) == value("accuracy", outputs, targets)
    images, classes = pixels(1)
    assert value("mean_iou", images, classes.astype(kind)) == value("mean_iou", images, classes)


@pytest.mark.parametrize("kind", [*LABEL_TYPES, "bool"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_logit(kind, shape):
    outputs = np.array([2.0, -1.0, 0.5, 0.0]).reshape(shape)
    targets = np.array([1, 1, 0, 0]).astype(kind)
    scores = named("binary_accuracy").scores(outputs, targets)
    assert scores.tolist() == [True, False, False, True]
    assert named("binary_accuracy").scores(outputs, targets[:, None]).shape == (4,)


def test_of_equal_outputs_the_first_classes_count():
    """A dead model is no better than chance."""
    same, targets = np.zeros((12, 12)), np.arange(12)
    assert value("accuracy", same, targets) == pytest.approx(1 / 12)
    assert value("accuracy_top5", same, targets) == pytest.approx(5 / 12)


def test_a_rare_class_counts_as_much_as_the_others():
    targets = np.array([0] * 19 + [1])
    always_zero = np.tile([1.0, 0.0], (20, 1))
    assert value("accuracy", always_zero, targets) == 0.95
    assert value("balanced_accuracy", always_zero, targets) == 0.5
    assert value("f1_macro", always_zero, targets) == pytest.approx(19 / 39)


def test_classes_without_a_pixel_do_not_count():
    targets = np.zeros((1, 2, 2), int)
    outputs = np.zeros((1, 5, 2, 2))
    outputs[0, 0] = 1.0
    assert value("mean_iou", outputs, targets) == 1.0
    assert list(named("mean_iou").parts(named("mean_iou").scores(outputs, targets))) == ["class 0"]
    outputs[0, 4, 0, 0] = 2.0
    assert value("mean_iou", outputs, targets) == (3 / 4 + 0) / 2


def test_a_split_of_ignored_pixels_has_no_value():
    outputs, targets = pixels(0)
    metric = named("mean_iou(ignore_index=9)")
    rows = metric.scores(outputs, np.full_like(targets, 9))
    for asked in (metric.value, metric.interval):
        with pytest.raises(ValueError, match="pixel that counts"):
            asked(rows)


def test_rows_are_of_the_smallest_type():
    outputs, targets = drawn(0)
    assert named("f1_macro").scores(outputs, targets).dtype == np.int8
    assert named("f1_macro").scores(np.zeros((2, 200)), np.array([0, 199])).dtype == np.int16
    assert named("mean_iou").scores(*pixels(0)).dtype == np.uint8
    assert named("mean_iou").scores(*pixels(0, size=(20, 20))).dtype == np.uint16
    assert named("accuracy").scores(outputs, targets).dtype == bool


def test_decisions_of_one_logit_agree_by_sign():
    outputs, reference = np.array([1.0, -1.0, 3.0]), np.array([0.1, -5.0, -0.1])
    assert value("agreement", outputs[:, None], reference[:, None]) == pytest.approx(2 / 3)


def test_samples_where_the_reference_is_confident():
    reference = np.array([[4.0, 0.0], [0.1, 0.0], [0.0, 4.0], [0.0, 0.2]])
    outputs = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    metric = named("agreement")
    rows = metric.scores(outputs, reference)
    (confident,) = metric.parts(rows).values()
    assert metric.value(rows) == 0.5 and metric.value(confident) == 1.0 and len(confident) == 2
    low, high = metric.interval(confident)
    assert low < 1.0 == high
    assert named("agreement(confident=1)").parts(
        named("agreement(confident=1)").scores(outputs, reference)) == {}
    every = named("agreement(confident=0)")
    assert len(every.parts(every.scores(outputs, reference))["confident samples"]) == 4


def test_a_selection_of_rows_is_the_metric_of_the_selected_samples():
    outputs, targets = drawn(2)
    chosen = np.flatnonzero(targets % 2 == 0)
    for text in ("accuracy", "balanced_accuracy", "f1_macro"):
        rows = named(text).scores(outputs, targets)
        assert named(text).value(rows[chosen]) == value(text, outputs[chosen], targets[chosen])


def test_cosine_of_zeros_and_of_large_outputs():
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert value("output_cosine", zero, zero) == 1.0
    assert value("output_cosine", zero, one) == 0.0
    assert value("output_cosine", 1e300 * one, -1e-300 * one) == -1.0


def test_probabilities_of_large_logits_are_finite():
    reference, outputs = np.array([[1000.0, -1000.0]]), np.array([[-1000.0, 1000.0]])
    assert value("kl_divergence", outputs, reference) == 2000.0


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from(METRICS.names()))
def test_order_does_not_matter(seed, n, name):
    draw = np.random.default_rng(seed)
    if name in ("mean_iou", "binary_accuracy"):
        size, classes = ((3, 2), 2) if name == "mean_iou" else ((), 1)
        outputs = draw.standard_normal((n, classes, *size))
        targets = draw.integers(0, 2, (n, *size))
    else:
        outputs, targets = draw.standard_normal((n, 6)), draw.integers(0, 6, n)
    metric = named(name)
    wanted = draw.standard_normal(outputs.shape) if metric.against == "reference" else targets
    order = draw.permutation(n)
    rows, moved = metric.scores(outputs, wanted), metric.scores(outputs[order], wanted[order])
    assert np.array_equal(rows[order], moved)
    assert metric.value(moved) == pytest.approx(metric.value(rows), rel=1e-9)
    assert metric.interval(moved) == pytest.approx(metric.interval(rows), rel=1e-6, abs=1e-9)
