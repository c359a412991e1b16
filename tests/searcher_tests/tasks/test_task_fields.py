"""Wrong values of every field of a task: a UserError that names the field, never another error."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from searcher.errors import UserError
from searcher.tasks.base import BaselineTraining, Task

DATA = (np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1]))
RIGHT = {"name": "right", "model": nn.Linear(2, 2), "training": DATA, "validation": DATA}

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=4),
    st.binary(max_size=3), st.just(float("nan")), st.just(object()), st.just(nn.ReLU),
    st.just(torch.zeros(2)), st.just(np.zeros(0)), st.just(()), st.just([]), st.just({}),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=3), st.one_of(st.integers(-2, 2), st.none()), max_size=2),
    st.sampled_from([len, int, lambda: 1 / 0, "accuracy", ValueError("x"), range(3), DATA]))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Task)])
@given(value=ANYTHING)
def test_a_field_with_any_value_is_refused_by_name_or_accepted(field: str, value: object) -> None:
    try:
        task = Task(**{**RIGHT, field: value})
        task.digest  # noqa: B018  computed from what was accepted
        for split in ("training", "validation", "test"):
            list(task.samples(split).batches(2))
        task.module()
    except UserError as error:
        # A split beside ``load`` is named instead of ``load``, a test split by where it is from.
        assert field in str(error) or field in ("load", "test")


@pytest.mark.parametrize(("fields", "words"), [
    ({"name": ""}, ("name", "expected a text")),
    ({"name": 7}, ("name", "found int 7")),
    ({"model": "resnet18"}, ("model", "the text 'resnet18'", "torch.nn.Module")),
    ({"model": dict}, ("model", "torch.nn.Module")),
    ({"loss": "cross_entropy"}, ("loss", "the text 'cross_entropy'", "a function")),
    ({"augment": 3}, ("augment", "found int 3", "a function")),
    ({"metric": None}, ("metric", "found None", "name of a metric")),
    ({"epochs": {"short": 3, "full": 2}}, ("epochs", "do not fall")),
    ({"epochs": {"sort": 3}}, ("epochs", "Did you mean 'short'?")),
    ({"epochs": {"short": 3}}, ("epochs", "{'short': 3}", "'full' too")),
    ({"epochs": {"short": 1.5, "full": 2}}, ("epochs['short']", "found float 1.5",
                                            "a whole number")),
    ({"batch_size": 0}, ("batch_size", "found int 0", "from 1")),
    ({"batch_size": True}, ("batch_size", "found bool True", "a whole number")),
    ({"workers": -1}, ("workers", "found int -1", "from 0")),
    ({"longest_full": float("nan")}, ("longest_full", "nan", "a number above 0")),
    ({"device": "gpu"}, ("device", "'gpu'", "one of auto, cpu, cuda")),
    ({"inputs": "image"}, ("inputs", "the text 'image'", "a tuple of names")),
    ({"outputs": ("a", "a")}, ("outputs", "('a', 'a')", "names that differ")),
    ({"baseline": {"max_epochs": 3}}, ("baseline", "BaselineTraining")),
    ({"baseline": BaselineTraining(learning_rate=0)}, ("baseline.learning_rate", "above 0")),
    ({"training": None}, ("training", "no data are given")),
    ({"load": dict}, ("training", "beside load")),
    ({"identity": "v1"}, ("identity", "the text 'v1'", "a dictionary")),
])
def test_a_wrong_value_is_named_with_what_is_expected(
    fields: dict[str, object], words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        Task(**{**RIGHT, **fields})
    assert [word for word in words if word not in str(caught.value)] == [], caught.value


def test_whether_the_author_states_epochs_does_not_depend_on_the_numbers() -> None:
    unstated = Task(**RIGHT)
    stated = Task(**RIGHT, epochs=dict(unstated.epochs))
    assert stated.epochs == unstated.epochs and stated.digest == unstated.digest
    for again in (stated, dataclasses.replace(stated, batch_size=2), copy.deepcopy(stated)):
        assert again.states_epochs
    for again in (unstated, dataclasses.replace(unstated, batch_size=2), copy.deepcopy(unstated)):
        assert not again.states_epochs
