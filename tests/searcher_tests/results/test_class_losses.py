"""The class, group or part that lost most, on rows of scores."""

import numpy as np
import pytest

from searcher.results.class_losses import bonferroni_z, worst_losses
from searcher.statistics.intervals import paired_difference
from searcher.statistics.sample_labels import SampleLabels
from searcher.tasks.metrics import registry as metrics
from searcher.tasks.metrics.base import Z_95, Metric
from searcher.tasks.scored_split import ScoredSplit
from tests.searcher_tests.angle_error import TEXT

N = 400
CLASSES = np.arange(N) % 4
BEFORE = np.arange(N) % 20 > 0
AFTER = BEFORE & ((CLASSES != 2) | (np.arange(N) % 3 > 0))


def labels(values: np.ndarray = CLASSES) -> list[SampleLabels]:
    found = SampleLabels.of("class", values)
    assert found is not None
    return [found]


def scored(scores: np.ndarray, metric: str = "accuracy") -> ScoredSplit:
    return ScoredSplit(metric, float(scores.mean()), len(scores), scores)


def test_the_class_that_lost_most_with_an_interval_for_all_classes() -> None:
    [loss] = worst_losses(metrics.named("accuracy"), "test", scored(BEFORE), scored(AFTER),
                          labels())
    rows = CLASSES == 2
    assert (loss.split, loss.kind, loss.name, loss.n, loss.compared) == ("test", "class", "2", 100,
                                                                         4)
    assert (loss.first, loss.second) == (BEFORE[rows].mean(), AFTER[rows].mean())
    lost, low, high = paired_difference(BEFORE[rows], AFTER[rows], bonferroni_z(4))
    assert loss.lost == lost > 0.2 and loss.interval == (low, high)
    narrow = paired_difference(BEFORE[rows], AFTER[rows])
    assert high - low > narrow[2] - narrow[1]


def test_bonferroni_of_one_is_the_usual_interval() -> None:
    assert bonferroni_z(1) == pytest.approx(Z_95)
    assert bonferroni_z(10) == pytest.approx(2.807, abs=1e-3)


def test_a_larger_error_is_a_loss() -> None:
    metric = metrics.named(TEXT)
    before = np.linspace(1, 2, N)
    after = before + np.where(CLASSES == 3, 0.5, -0.25)
    [loss] = worst_losses(metric, "validation", scored(before, TEXT), scored(after, TEXT),
                          labels())
    assert loss.name == "3" and loss.lost == pytest.approx(0.5)
    assert loss.interval is not None and loss.interval[0] > 0
    assert loss.second == pytest.approx(loss.first + 0.5)


def test_one_class_or_other_samples_or_no_scores_have_no_entry() -> None:
    metric = metrics.named("accuracy")
    one, other = scored(BEFORE), scored(AFTER)
    assert worst_losses(metric, "test", one, other, labels(np.zeros(N, int))) == []
    assert worst_losses(metric, "test", one, other, labels(CLASSES[:-1])) == []
    assert worst_losses(metric, "test", one, other, []) == []
    bare = ScoredSplit("accuracy", 0.9, N)
    assert worst_losses(metric, "test", one, bare, labels()) == []
    assert worst_losses(metric, "test", one, scored(AFTER[:-1]), labels()) == []


def test_a_class_of_one_sample_has_a_loss_without_an_interval() -> None:
    classes = np.where(np.arange(N) == 7, 9, CLASSES)
    before, after = np.ones(N), np.ones(N) + (np.arange(N) == 7)
    [loss] = worst_losses(metrics.named(TEXT), "test", scored(before, TEXT), scored(after, TEXT),
                          labels(classes))
    assert (loss.name, loss.n, loss.lost, loss.interval) == ("9", 1, 1.0, None)


def test_parts_of_a_metric_take_the_place_of_its_classes() -> None:
    """F1 of a class counts what is taken for it, not only its own samples."""
    metric: Metric = metrics.named("f1_macro")
    rows = np.stack([CLASSES, CLASSES], axis=1).astype(np.int8)
    worse = rows.copy()
    worse[(CLASSES == 0) & (np.arange(N) % 8 == 0), 1] = 1
    found = worst_losses(metric, "test", scored(rows, "f1_macro"), scored(worse, "f1_macro"),
                         labels())
    assert [(loss.kind, loss.name, loss.compared) for loss in found] == [("part", "class 0", 4)]
    [loss] = found
    assert loss.second == pytest.approx(2 * 50 / (100 + 50)) and loss.lost == pytest.approx(1 / 3)


def test_a_metric_without_a_value_for_a_class_leaves_it_out() -> None:
    """A picture without a pixel that counts has no intersection over union."""
    metric = metrics.named("mean_iou(ignore_index=255)")
    before = np.zeros((4, 4), np.uint8)
    before[:3] = [5, 4, 5, 5]
    after = before.copy()
    after[2] = [3, 4, 5, 5]
    groups = SampleLabels.of("group", ["day", "day", "night", "empty"])
    assert groups is not None
    one, other = (ScoredSplit(metric.text, 1.0, 4, rows) for rows in (before, after))
    found = {loss.kind: loss for loss in worst_losses(metric, "test", one, other, [groups])}
    assert found["group"].name == "night" and found["part"].name == "class 0"
