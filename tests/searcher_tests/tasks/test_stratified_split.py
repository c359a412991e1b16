import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searcher.tasks.stratified_split import stratified

LABELS = np.random.default_rng(3).permutation(np.repeat(np.arange(5), [100, 120, 80, 90, 110]))
SIZES = {"training": 300, "validation": 50, "test": 150}


def test_disjoint_whole_and_sorted() -> None:
    chosen = stratified(LABELS, SIZES, seed=0)
    assert {name: len(index) for name, index in chosen.items()} == SIZES
    together = np.concatenate(list(chosen.values()))
    assert len(set(together.tolist())) == len(LABELS)
    assert all((np.diff(index) > 0).all() for index in chosen.values())


def test_each_class_gives_its_share() -> None:
    for name, index in stratified(LABELS, SIZES, seed=0).items():
        found = np.bincount(LABELS[index], minlength=5)
        assert np.abs(found - np.bincount(LABELS) * SIZES[name] / 500).max() < 1


def test_the_split_is_fixed_by_its_seed() -> None:
    first, again, other = (stratified(LABELS, SIZES, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in SIZES)
    assert not np.array_equal(first["test"], other["test"])
    assert first["validation"][:5].tolist() == [34, 39, 45, 62, 63]


def test_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="600 samples asked for, 500 there"):
        stratified(LABELS, {"training": 600}, seed=0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_what_is_asked_for_is_given(counts: list[int], data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    first = data.draw(st.integers(1, len(labels)))
    sizes = {"first": first, "rest": len(labels) - first}
    chosen = stratified(labels, sizes, seed=0)
    assert {name: len(index) for name, index in chosen.items()} == sizes


def test_thirds_of_three_classes() -> None:
    labels = np.repeat(np.arange(3), 3)
    sizes = {"training": 4, "validation": 4, "test": 1}
    chosen = stratified(labels, sizes, seed=0)
    assert {name: len(index) for name, index in chosen.items()} == sizes
