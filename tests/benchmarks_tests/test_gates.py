"""Gates and estimators on a synthetic window, whose first half is quiet and second half slow."""

import numpy as np
import pytest

from benchmarks.measurement.gates import (
    BESIDE,
    ESTIMATORS,
    GATES,
    LEAST_BLOCKS,
    low_quantiles,
    ratio,
)

LEVELS = {"fp32": 100e-6, "thin": 20e-6, "hash": 40e-6, "copy": 1e-3}
N = 60


def window(slow_own: float = 2.0) -> np.ndarray:
    """Rows of a model of 50 us. In the second half the references take 1.5 times as long, the model
    ``slow_own`` times as long, and a tick is stolen."""
    rng = np.random.default_rng(0)
    rows = np.empty((N, 2 + 2 * len(BESIDE)))
    rows[:, 0] = 50e-6
    rows[:, 1:-1] = [LEVELS[name] for name in BESIDE] * 2
    rows[:, :-1] *= rng.normal(1.0, 0.005, (N, 1 + 2 * len(BESIDE)))
    rows[N // 2:, 0] *= slow_own
    rows[N // 2:, 1:-1] *= 1.5
    rows[:, -1] = [0.0] * (N // 2) + [1.0] * (N // 2)
    return rows


@pytest.mark.parametrize("name", [name for name in GATES if not name.startswith("none")])
def test_a_gate_counts_the_quiet_half(name: str) -> None:
    counted = GATES[name](window(), LEVELS)
    assert counted[:N // 2].mean() > 0.85 and not counted[N // 2:].any()
    assert ratio(window(), counted) == pytest.approx(0.5, rel=0.01)


def test_without_a_gate_the_states_are_mixed() -> None:
    rows = window()
    mixed = ratio(rows, GATES["none: all blocks"](rows, LEVELS))
    assert mixed is not None and mixed > 0.51
    assert low_quantiles(rows, LEVELS) == pytest.approx(0.5, rel=0.02)


def test_too_few_blocks_give_no_ratio() -> None:
    rows = window()
    few = np.arange(N) < LEAST_BLOCKS - 1
    assert ratio(rows, few) is None


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name.startswith("extrapolated")])
def test_a_model_that_slows_more_than_the_reference_is_extrapolated(name: str) -> None:
    rows = window()[:N // 2]
    rng = np.random.default_rng(1)
    slower = rng.uniform(1.02, 1.08, N // 2)
    rows[:, 1:1 + len(BESIDE)] *= slower[:, None]
    rows[:, 1 + len(BESIDE):-1] *= slower[:, None]
    rows[:, 0] *= slower**2
    found = ESTIMATORS[name](rows, LEVELS)
    shipped = ESTIMATORS["the reference (shipped)"](rows, LEVELS)
    assert found == pytest.approx(0.5, rel=0.005)
    assert shipped is not None and shipped > 0.51
