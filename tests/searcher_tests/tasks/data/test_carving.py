"""The three splits, and a test split that the user does not give."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from searcher.errors import TaskError
from searcher.tasks.data.carving import sources_of
from searcher.tasks.data.source import Source

X = np.arange(100, dtype=np.float32)[:, None]
LABELS = np.arange(100) % 4


class Pairs:
    """A dataset without a list of its labels."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> Any:
        return X[index], LABELS[index]


class Labelled(Pairs):
    """As torchvision's datasets are."""

    targets = LABELS.tolist()


def rows(source: Source) -> set[int]:
    return set(source.rows.tolist())


@pytest.mark.parametrize(("validation", "how", "even"), [
    ((X, LABELS), "with classes in equal shares", True),
    ((torch.from_numpy(X), torch.from_numpy(LABELS)), "with classes in equal shares", True),
    ((X, LABELS[:, None]), "with classes in equal shares", True),
    (Labelled(), "with classes in equal shares", True),
    (Pairs(), "with classes in equal shares", True),
    (TensorDataset(torch.from_numpy(X), torch.from_numpy(LABELS)),
     "with classes in equal shares", True),
    ((X, X[:, 0]), "at random", False),
    ((X, {"a": LABELS}), "at random", False),
])
@pytest.mark.parametrize("empty", [None, (X[:0], LABELS[:0])])
def test_half_of_validation_becomes_the_test_split(validation: Any, how: str, even: bool,
                                                   empty: Any) -> None:
    given = {"training": (X, LABELS), "validation": validation, "test": empty}
    found, again = sources_of(given), sources_of(given)
    test, rest = rows(found.of["test"]), rows(found.of["validation"])
    assert len(test) == len(rest) == 50 and test | rest == set(range(100))
    assert found.of["test"].split == "test"
    assert rows(again.of["test"]) == test, "the same in every process"
    assert found.carved is not None and how in found.carved
    assert "50 of the 100 validation samples" in found.carved
    if even:
        counts = np.bincount(LABELS[sorted(test)])
        assert counts.max() - counts.min() <= 1


def test_a_large_dataset_is_not_read_for_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searcher.tasks.data.carving.MOST_READ", 99)
    found = sources_of({"training": (X, LABELS), "validation": Pairs()})
    assert found.carved is not None and "at random" in found.carved


def test_labels_under_a_key() -> None:
    items = [{"x": X[i], "label": LABELS[i]} for i in range(100)]
    found = sources_of({"training": items, "validation": items}, "label")
    assert found.carved is not None and "with classes in equal shares" in found.carved


def test_a_test_split_that_is_given_is_kept() -> None:
    found = sources_of({"training": (X, LABELS), "validation": (X, LABELS),
                        "test": (X[:3], LABELS[:3])})
    assert found.carved is None and [len(found.of[s]) for s in found.of] == [100, 100, 3]


@pytest.mark.parametrize(("given", "said"), [
    ({"validation": (X, LABELS)}, "training: no data are given"),
    ({"training": (X, LABELS)}, "validation: no data are given"),
    ({"training": (X, LABELS), "validation": (X[:0], LABELS[:0])},
     "validation: it has 0 samples, expected at least 1"),
    ({"training": (X[:0], LABELS[:0]), "validation": (X, LABELS)}, "training: it has 0 samples"),
    ({"training": (X, LABELS), "validation": (X[:1], LABELS[:1])},
     "test: no data are given, and the validation split is too small"),
    ({"train": (X, LABELS), "validation": (X, LABELS)}, "load: gave the split 'train', expected"),
])
def test_splits_that_are_missing(given: Any, said: str) -> None:
    with pytest.raises(TaskError) as caught:
        sources_of(given)
    assert str(caught.value).startswith(said)
