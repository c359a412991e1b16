"""The surrogate model, fitted to measured and trained candidates."""

import numpy as np
import pytest

from searcher.search.learnt.surrogate import (
    LARGEST_DROP,
    LARGEST_PRIOR_DROP,
    Expectation,
    Regression,
    Surrogate,
    feasibility_probability,
)

BASE = {"macs": 1000.0, "file_bytes": 1000.0, "latency_s": 1.0}
ALLOWED = 0.01
REACH = 8 * ALLOWED
HERE = {"macs": 500.0, "file_bytes": 100.0, "latency_s": 0.5}
MILD = {"macs": 900.0, "file_bytes": 900.0, "latency_s": 0.9}


def surrogate() -> Surrogate:
    return Surrogate(BASE, 3, REACH)


@pytest.mark.parametrize(("macs", "file_bytes", "prior"), [
    (0.1, 0.5, ALLOWED), (0.5, 0.01, ALLOWED), (0.1, 0.01, ALLOWED), (0.3, 0.1, 0.0),
    (0.02, 0.5, LARGEST_PRIOR_DROP * REACH), (2.0, 2.0, 0.0)])
def test_prior_drop(macs: float, file_bytes: float, prior: float) -> None:
    """A tenth of the MACs or a hundredth of the bytes costs one point, whichever is closer."""
    here = {"macs": 1000.0 * macs, "file_bytes": 1000.0 * file_bytes, "latency_s": 1.0}
    assert surrogate().expected_drop([1, 0, 0], here).drop == pytest.approx(prior, abs=0.0003)


def test_the_harmful_step_is_identified() -> None:
    known = surrogate()
    for steps, drop in (([1, 0, 0], 0.0), ([1, 1, 0], 0.05), ([0, 1, 0], 0.05), ([1, 0, 1], 0.0)):
        known.add_drop(steps, MILD, drop)
    assert known.expected_drop([0, 1, 1], MILD).drop > 0.025
    assert known.expected_drop([1, 0, 1], MILD).drop < 0.005


def test_observed_drops_are_bounded() -> None:
    bad, worse = surrogate(), surrogate()
    bad.add_drop([1, 0, 0], MILD, LARGEST_DROP * REACH)
    worse.add_drop([1, 0, 0], MILD, 0.9)
    assert bad.expected_drop([1, 0, 0], MILD) == worse.expected_drop([1, 0, 0], MILD)


def test_deviation_decreases_only_for_trained_features() -> None:
    known = surrogate()
    first = known.expected_drop([1, 0, 0], HERE).deviation
    known.add_drop([1, 0, 0], HERE, 0.0)
    known.add_drop([1, 0, 0], HERE, 0.0)
    assert known.expected_drop([1, 0, 0], HERE).deviation < 0.6 * first
    assert known.expected_drop([0, 1, 0], HERE).deviation == pytest.approx(first)
    assert known.expected_drop([0, 0, 0], HERE).deviation == 0


def test_costs_multiply() -> None:
    known = surrogate()
    for _ in range(20):
        known.add_costs([1, 0, 0], {"macs": 500.0, "file_bytes": 1000.0, "latency_s": 0.5})
        known.add_costs([0, 1, 0], {"macs": 1000.0, "file_bytes": 250.0, "latency_s": 1.0})
    assert known.expected_costs([1, 1, 0]) == pytest.approx(
        {"macs": 500.0, "file_bytes": 250.0, "latency_s": 0.5}, rel=0.02)
    assert known.expected_costs([0, 0, 1]) == pytest.approx(BASE)


def test_a_regression_finds_the_line() -> None:
    draw = np.random.default_rng(0)
    line, truth = Regression(3, 2, spread=10.0, noise=0.1), draw.normal(size=(3, 2))
    for x in draw.normal(size=(200, 3)):
        line.add(x, x @ truth)
    x = np.array([1.0, -2.0, 0.5])
    found, deviation = line.predict(x)
    assert found == pytest.approx(x @ truth, abs=1e-3) and deviation < 0.05


def test_feasibility_probability_is_half_at_the_allowed_drop() -> None:
    def probability(drop: float, deviation: float) -> float:
        return feasibility_probability(Expectation(drop, deviation), ALLOWED, REACH)

    assert probability(0.01, 0.0) == 0.5
    assert probability(0.0, 0.0) > 0.8 and probability(9.0, 0.0) < 1e-9
    assert probability(0.03, 0.0) < probability(0.03, 0.05) < 0.5
