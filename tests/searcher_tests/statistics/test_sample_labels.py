import numpy as np

from searcher.statistics.sample_labels import LARGEST_LABELS_BYTES, MOST_NAMES, SampleLabels


def test_classes_by_the_values_of_their_targets() -> None:
    labels = SampleLabels.of("class", np.array([7, -1, 7, 3]))
    assert labels is not None and labels.names == ("-1", "3", "7")
    assert labels.codes.dtype == np.uint8 and labels.codes.tolist() == [2, 0, 2, 1]
    assert {name: rows.tolist() for name, rows in labels.samples().items()} == {
        "-1": [1], "3": [3], "7": [0, 2]}


def test_groups_by_their_names() -> None:
    labels = SampleLabels.of("group", ["night", "day", "night"])
    assert labels is not None and labels.kind == "group"
    assert labels.samples()["night"].tolist() == [0, 2]


def test_names_without_samples_have_none() -> None:
    labels = SampleLabels("class", ("a", "b", "c"), np.array([2, 0], np.uint8))
    assert {name: rows.tolist() for name, rows in labels.samples().items()} == {
        "a": [1], "c": [0]}


def test_too_many_are_not_kept() -> None:
    assert SampleLabels.of("class", np.arange(MOST_NAMES)) is not None
    assert SampleLabels.of("class", np.arange(MOST_NAMES + 1)) is None
    assert SampleLabels.of("class", np.zeros(LARGEST_LABELS_BYTES + 1, int)) is None
    assert SampleLabels.of("class", np.zeros(0, int)) is None
