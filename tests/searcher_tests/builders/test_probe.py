import random

import numpy as np
import pytest

from agents.runtimes.base import input_values, is_one
from searcher.builders.probe import probe_input, probe_outputs
from tests.contract.test_runtimes import two_of_each
from tests.searcher_tests.builders.test_evaluation import first_pixels


def test_the_probe_input_is_the_same_everywhere() -> None:
    draw = random.Random(0)
    expected = np.array([draw.random() for _ in range(6)], np.float32).reshape(1, 2, 3)
    assert np.array_equal(probe_input(["batch", 2, 3]), expected)
    assert probe_input([None, 0, "h"], batch=2).shape == (2, 2, 2)
    assert not np.array_equal(probe_input([1, 4], seed=1), probe_input([1, 4]))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float32", "float16", "float64"])
def test_it_has_the_values_that_devices_use(dtype: str) -> None:
    found = probe_input(["n", 5], dtype=dtype)
    drawn = input_values(5, 0)
    assert found.dtype == dtype
    if np.dtype(dtype).kind == "f":
        assert found.ravel().tolist() == np.array(drawn, "float32").astype(dtype).tolist()
    else:
        assert found.ravel().tolist() == [is_one(value) for value in drawn]
        assert set(found.ravel().tolist()) == {0, 1}


def test_probe_outputs_are_what_the_host_computes() -> None:
    outputs = probe_outputs(first_pixels())
    assert outputs == pytest.approx(probe_input([1, 4])[0, :3].tolist())
    assert probe_outputs(first_pixels(), most=2) == outputs[:2]


def test_all_outputs_are_probed_in_order() -> None:
    tokens = probe_input([1, 3], dtype="int64")
    sums = tokens + probe_input([1, 2, 2]).mean()
    outputs = probe_outputs(two_of_each("FLOAT", "INT64"))
    assert outputs == pytest.approx(
        [*sums.ravel(), *(tokens.ravel() > 0).astype(int), 1, 3, *tokens.ravel()], rel=1e-6)
    assert probe_outputs(two_of_each("FLOAT", "INT64"), most=5) == outputs[:5]
