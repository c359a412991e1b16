import json
import math

import numpy as np
import pytest

from searcher.artifacts.formats.number_formats import tolerance
from searcher.errors import UserError
from searcher.spec.measurement_plan import PLANS, plan_of, screening_plan
from searcher.statistics.intervals import paired_difference, wilson
from searcher.statistics.latency import quiet_blocks, rough_ratio, summarise
from searcher.statistics.parity import parity


@pytest.mark.parametrize(("hits", "n", "low", "high"), [
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
])
def test_wilson_as_published(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_stays_within_0_and_1_and_is_symmetric() -> None:
    low, high = wilson(500, 500)
    assert high == pytest.approx(1.0) and high <= 1.0
    assert (1 - high, 1 - low) == pytest.approx(wilson(0, 500))
    with pytest.raises(ValueError, match="n > 0, got 0"):
        wilson(0, 0)


def samples(both: int, lost: int, won: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([True, True, False, False], [both, lost, won, neither])
    second = np.repeat([True, False, True, False], [both, lost, won, neither])
    return first, second


def test_paired_difference_by_hand() -> None:
    drop, low, high = paired_difference(*samples(36, 12, 2, 0))
    # (12.5 - 2.5) / 52 -+ 1.96 * sqrt(15 - 100 / 52) / 52
    assert drop == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.0560, 0.3286), abs=1e-4)


def test_paired_difference_of_equal_answers_is_not_certain() -> None:
    drop, low, high = paired_difference(*samples(90, 0, 0, 10))
    assert drop == 0 and low == pytest.approx(-high) and 0 < high < 0.05


def test_paired_difference_swaps_sign_and_pairs_only() -> None:
    first, second = samples(50, 7, 3, 40)
    drop, low, high = paired_difference(first, second)
    assert paired_difference(second, first) == pytest.approx((-drop, -high, -low))
    with pytest.raises(ValueError, match="differ in number"):
        paired_difference(first, second[1:])


BLOCKS = {
    "before_s": [1.00, 1.05, 1.00, 1.30, 1.00, 1.02],
    "candidate_s": [0.50, 0.525, 0.90, 0.65, 0.60, 0.51],
    "after_s": [1.00, 1.05, 1.20, 1.00, 1.00, 1.02],
}
CALLS = [500_000_000, 525_000_000, 900_000_000, 650_000_000, 600_000_000, 510_000_000]
ONE_EACH = [1] * 6


def test_a_block_counts_while_the_reference_on_both_sides_is_quiet() -> None:
    assert quiet_blocks(BLOCKS, 1.0, 0.06).tolist() == [True, True, False, False, True, True]
    assert quiet_blocks(BLOCKS, 1.0, 0.25).tolist() == [True, True, True, False, True, True]
    assert not quiet_blocks(BLOCKS, 0.9, 0.06).any()


def test_summary_of_the_quiet_blocks() -> None:
    found = summarise(BLOCKS, CALLS, ONE_EACH, gate_level_s=1.0, quiet_level_s=2.0)
    assert (found.ratio, found.ratio_low, found.ratio_high) == pytest.approx((0.5, 0.5, 0.6))
    assert (found.latency_s, found.latency_high_s) == pytest.approx((1.0, 1.2))
    assert (found.n, found.calls, found.quiet_share) == (4, 4, pytest.approx(4 / 6))
    assert found.ungated_p50_s == pytest.approx(0.5625)
    assert found.p99_s.value is None
    assert found.warnings == ("only 4 quiet blocks",)
    assert found.session_blocks == ()
    assert json.loads(json.dumps(found.as_document()))["p99_s"] == {
        "value": None, "low": None, "high": None}


def test_percentiles_count_the_calls_of_quiet_blocks_only() -> None:
    before = [1.0] * 50 + [9.0] * 50
    blocks = {"before_s": before, "after_s": before, "candidate_s": [0.5] * 100}
    calls = [500_000_000 + n for n in range(100)] + [10**12] * 300
    found = summarise(blocks, calls, [2] * 50 + [6] * 50, gate_level_s=1.0)
    assert found.p50_s.value == pytest.approx(0.5, rel=1e-6)
    assert found.calls == 100 and found.p90_s.value == pytest.approx(0.5, rel=1e-6)
    assert found.p90_s.low is not None and found.p90_s.low < found.p90_s.value


def test_without_a_known_level_the_gate_is_the_level() -> None:
    assert summarise(BLOCKS, CALLS, ONE_EACH, gate_level_s=1.0).latency_s == pytest.approx(0.5)


def test_the_ratio_does_not_drift_with_the_machine() -> None:
    drift = np.linspace(1.0, 1.05, 40)
    blocks = {"before_s": drift, "after_s": drift, "candidate_s": drift * 0.25}
    found = summarise(blocks, [250_000_000] * 40, [1] * 40, gate_level_s=1.0)
    assert found.ratio == pytest.approx(0.25) and found.warnings == ()


def test_what_differs_between_sessions_widens_the_interval() -> None:
    """Each session has its own level; all its blocks are equal."""
    levels = np.repeat([0.49, 0.51, 0.50, 0.495, 0.505, 0.50, 0.492, 0.508], 10)
    blocks = {"before_s": [1.0] * 80, "after_s": [1.0] * 80, "candidate_s": levels}
    calls = [500_000_000] * 80
    alone = summarise(blocks, calls, [1] * 80, 1.0)
    known = summarise(blocks, calls, [1] * 80, 1.0, session_blocks=[10] * 8)
    assert alone.ratio == known.ratio
    assert known.session_ratios == pytest.approx(levels[::10]) and alone.session_ratios == ()
    assert known.ratio_high - known.ratio_low > alone.ratio_high - alone.ratio_low
    assert known == summarise(blocks, calls, [1] * 80, 1.0, session_blocks=[10] * 8)


def test_the_warnings_of_the_agent_come_first() -> None:
    found = summarise(BLOCKS, CALLS, ONE_EACH, 1.0, warnings=["hot: it began at 80.0 C"])
    assert found.warnings == ("hot: it began at 80.0 C", "only 4 quiet blocks")


def test_no_quiet_block_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no quiet block"):
        summarise(BLOCKS, CALLS, ONE_EACH, gate_level_s=0.5)


def test_a_summary_criticises_itself() -> None:
    before = np.where(np.arange(50) < 8, 1.0, 2.0)
    blocks = {"before_s": before, "after_s": before, "candidate_s": np.tile([0.5, 0.8], 25)}
    found = summarise(blocks, [500_000_000] * 50, [1] * 50, gate_level_s=1.0).warnings
    assert [w.split(" ")[0] for w in found] == ["block", "only", "the"]
    assert "16%" in found[2]


def test_a_machine_that_was_slow_throughout_is_told() -> None:
    def warned(known_s: float) -> list[str]:
        blocks = {"before_s": [1.3] * 30, "after_s": [1.3] * 30, "candidate_s": [0.65] * 30}
        found = summarise(blocks, [650_000_000] * 30, [1] * 30, 1.3, known_s).warnings
        return [w for w in found if "slow throughout" in w]

    assert "30% longer" in warned(1.0)[0] and warned(1.2) == []


@pytest.mark.parametrize(("outputs", "number_format", "said"), [
    ([1.0, -4.0], "float32", None),
    ([1.003, -4.0], "float32", None),
    ([1.1, -4.0], "float32", "2.50%"),
    ([1.07, -4.0], "int8", None),
    ([1.1, -4.0], "int8", "allowed 2.00%"),
    ([1.0], "float32", "1 output values where the host has 2"),
    ([1.0, math.nan], "float32", "not finite"),
    ([math.inf, -4.0], "int8", "not finite"),
])
def test_parity(outputs: list[float], number_format: str, said: str | None) -> None:
    found = parity([1.0, -4.0], outputs, tolerance(number_format))
    assert found is None if said is None else said in (found or "")


def test_a_rough_ratio_comes_from_the_quietest_third() -> None:
    quiet, slow = [1.0, 0.3], [1.5, 0.6]
    before, candidate = zip(*[quiet] * 4, *[slow] * 8, strict=True)
    blocks = {"before_s": before, "after_s": before, "candidate_s": candidate}
    assert rough_ratio(blocks) == pytest.approx(0.3)
    one_sided = {"before_s": [1.0, 1.0], "after_s": [1.5, 1.0], "candidate_s": [0.5, 0.3]}
    assert rough_ratio(one_sided) == pytest.approx(0.3), "the slower neighbour counts"


def test_parity_of_nothing_and_of_zeros() -> None:
    assert parity([], [], tolerance("float32")) is None
    assert parity([0.0], [0.0], tolerance("float32")) is None
    assert parity([0.0], [1e-3], tolerance("float32")) is not None


def test_values_beyond_the_first_output_of_an_older_file_are_not_compared() -> None:
    """Older versions stored the values of the first output only."""
    exact = tolerance("float32")
    assert parity([1.0, -4.0], [1.0, -4.0, 7.0, 0.5], exact) is None
    assert "2.50%" in (parity([1.0, -4.0], [1.1, -4.0, 7.0, 0.5], exact) or "")
    assert "not finite" in (parity([1.0, -4.0], [1.0, -4.0, math.nan], exact) or "")
    assert "where the host has 0" in (parity([], [1.0], exact) or "")


def test_parity_is_refused_when_the_host_has_no_numbers() -> None:
    assert parity([math.nan, 1.0], [0.5, 1.0], tolerance("float32")) is not None


@pytest.mark.parametrize("name", PLANS)
def test_named_plans(name: str) -> None:
    plan = plan_of(name)
    assert plan.name == name and plan_of(plan._asdict()) == plan
    short = screening_plan(plan)
    assert short.name == f"{name}-screening" and short.processes == 1 and not short.memory
    assert 8 <= short.min_blocks < plan.min_blocks and short.max_s < plan.max_s


def test_a_table_changes_quick() -> None:
    plan = plan_of({"min_blocks": 50, "memory": True})
    assert plan == PLANS["quick"]._replace(name="custom", min_blocks=50, memory=True)


@pytest.mark.parametrize(("value", "said"), [
    ("quik", "'quik'. Did you mean 'quick'"),
    ({"min_block": 3}, "'min_block' in the measurement plan. Did you mean 'min_blocks'"),
    ({"min_blocks": 5}, "min_blocks >= 6"),
    ({"block_s": 0}, "block_s > 0"),
    ({"max_s": 0}, "max_s > 0"),
    ({"processes": 0}, "processes >= 1"),
])
def test_wrong_plans(value: object, said: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_of(value)  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.mark.parametrize("table", [
    {"block_s": "long"}, {"min_blocks": 12.5}, {"gate": "wide"}, {"memory": "yes"},
    {"block_s": math.nan}, {"max_s": True}, {"name": 3}, {"gate": -1.0}, {"min_s": -1.0},
])
def test_plan_values_of_a_wrong_type_are_the_users_to_mend(table: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(table))):
        plan_of(table)
