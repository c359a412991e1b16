"""What does not fit is refused with the sample, what was found, what is expected, what to do."""

import numpy as np
import pytest

from searcher.tasks.metrics.base import SampleError
from searcher.tasks.metrics.registry import named

FOUR = np.eye(4)[[0, 1, 2, 3, 0]]
PIXELS = np.zeros((2, 3, 4, 4))


@pytest.mark.parametrize(("metric", "outputs", "targets", "said"), [
    ("accuracy", FOUR[:, :1], [0, 1, 0, 1, 0], r"one logit per sample.*\"binary_accuracy\""),
    ("accuracy", FOUR[:, 0], [0, 1, 0, 1, 0], r"shape \(5,\).*\"binary_accuracy\""),
    ("accuracy", PIXELS, [0, 1], r"\(n, classes\).*\"mean_iou\""),
    ("accuracy", FOUR, [0, 1, 2, 4, 0], "sample 3: its target is 4; expected 0 to 3"),
    ("accuracy", FOUR, [0, -1, 2, 3, 0], "sample 1: its target is -1; expected 0 to 3"),
    ("accuracy", FOUR, [0.0, 1.0, 0.5, 1.0, 2.0], "sample 2: its target is 0.5.*whole numbers"),
    ("accuracy", FOUR, [0.0, 1.0, np.nan, 1.0, 2.0], "sample 2: .*target are not finite"),
    ("accuracy", FOUR, FOUR, r"shape \(5, 4\).*targets.argmax\(1\)"),
    ("accuracy", FOUR, ["a", "b", "c", "d", "e"], "targets have type <U1"),
    ("accuracy", FOUR.astype(object), [0, 1, 2, 3, 0], "outputs have type object"),
    ("accuracy", FOUR, 3, "do not answer 1 samples"),
    ("accuracy_top5", FOUR, [0, 1, 2, 3, 0], "4 classes; .* more than 5. Use metric \"accuracy\""),
    ("binary_accuracy", FOUR, [0, 1, 0, 1, 0], r"shape \(5, 4\).*Use metric \"accuracy\""),
    ("binary_accuracy", FOUR[:, :1], [0, 1, 2, 1, 0], "sample 2: its target is 2; expected 0 to 1"),
    ("balanced_accuracy", PIXELS, [0, 1], "\"mean_iou\""),
    ("f1_macro", FOUR, [0, 1, 2, 9, 0], "sample 3: its target is 9"),
    ("mean_iou", FOUR, [0, 1, 2, 3, 0], r"\(n, classes, height, width\).*\"accuracy\""),
    ("mean_iou", PIXELS, np.zeros((2, 8, 8)), r"shape \(2, 8, 8\).*\(2, 4, 4\).*one size"),
    ("mean_iou", PIXELS, np.full((2, 4, 4), 255), r"is 255; .*mean_iou\(ignore_index=255\)"),
    ("agreement", FOUR, FOUR[:, :3], r"\(5, 4\).*uncompressed model \(5, 3\)"),
    ("kl_divergence", FOUR, np.full((5, 4), np.nan), "of its output of the uncompressed model"),
    ("output_cosine", FOUR, FOUR[1:], "do not answer 4 samples"),
])
def test_what_does_not_fit(metric, outputs, targets, said):
    with pytest.raises(ValueError, match=said):
        named(metric).scores(outputs, np.asarray(targets))


def test_the_first_sample_with_an_output_that_is_not_finite():
    outputs = FOUR.copy()
    outputs[2, 1] = np.inf
    outputs[3] = np.nan
    with pytest.raises(SampleError) as caught:
        named("accuracy").scores(outputs, np.zeros(5, int))
    assert caught.value.sample == 2
    assert "1 of 4 values of its output are not finite (inf)" in caught.value.why


@pytest.mark.parametrize("text", ["accuracy", "balanced_accuracy", "f1_macro", "mean_iou"])
def test_pairs_need_the_same_samples(text):
    metric = named(text)
    data = (PIXELS, np.zeros((2, 4, 4), int)) if text == "mean_iou" else (FOUR, np.arange(5) % 4)
    rows = metric.scores(*data)
    with pytest.raises(ValueError, match="paired samples differ"):
        metric.difference(rows, rows[1:])
