"""The rules by which a front measured together replaces what single windows said."""

from typing import Any

import pytest

from searcher.pareto.joint import (
    NEAR,
    contenders,
    joint_entry,
    trial_point,
    with_joint_measurement,
)
from searcher.search.final_measurement import FEWEST_BLOCKS, MOST_BLOCKS, plan_together
from searcher.spec.measurement_plan import PLANS
from tests.searcher_tests.search.test_promotion import OBJECTIVES, point


def test_contenders_are_the_front_and_what_comes_close_to_it() -> None:
    front = [point(1, 0.99, 1.0, 500), point(2, 0.98, 0.5, 400)]
    close = point(3, 0.98, 0.5 * (1 + NEAR / 2), 400)
    far = point(4, 0.98, 0.5 * (1 + 2 * NEAR), 400)
    broken = point(5, 0.999, 0.1, 10, feasible=False)
    assert [p.trial for p in contenders([*front, close, far, broken], OBJECTIVES)] == [2, 3, 1]


def test_a_larger_point_counts_only_where_it_may_be_the_faster_one() -> None:
    front = [point(1, 0.99, 1.0, 500), point(2, 0.98, 0.5, 400)]
    larger = point(3, 0.98, 0.51, 401)
    assert [p.trial for p in contenders([*front, larger], OBJECTIVES)] == [2, 3, 1]
    slower = point(3, 0.98, 0.54, 401)
    assert [p.trial for p in contenders([*front, slower], OBJECTIVES)] == [2, 1]


def test_without_an_objective_of_speed_there_is_the_front_alone() -> None:
    without = tuple(o for o in OBJECTIVES if o.name != "latency_s")
    points = [point(1, 0.99, 1.0, 500), point(2, 0.98, 0.5, 400), point(3, 0.98, 0.5, 401)]
    assert {p.trial for p in contenders(points, without)} == {1, 2}
    assert contenders([], OBJECTIVES) == []


def test_the_plan_is_the_campaigns_with_more_blocks_at_first_and_fewer_at_last() -> None:
    quick = plan_together(PLANS["quick"], 1)
    assert (quick.name, quick.min_blocks) == ("quick-together", MOST_BLOCKS)
    assert plan_together(PLANS["quick"], 2).min_blocks == PLANS["quick"].min_blocks
    assert plan_together(PLANS["quick"], 3).min_blocks == FEWEST_BLOCKS
    strict = plan_together(PLANS["strict"], 1)
    assert strict.min_blocks == PLANS["strict"].min_blocks and not strict.memory
    assert strict.processes == PLANS["strict"].processes


TRIAL: dict[str, Any] = {
    "id": 4, "state": "complete", "reason": None, "sha256": "f", "measurement": 7,
    "values": {"accuracy": 0.98, "latency_ratio": 0.5, "latency_s": 0.0005, "file_bytes": 10},
    "intervals": {"accuracy": [0.97, 0.99], "latency_s": [0.00049, 0.00051]},
    "constraints": {"latency_s": -0.1}}


def test_what_was_measured_together_replaces_latency_and_nothing_else() -> None:
    entry = joint_entry(
        TRIAL, {"ratio": 0.6, "ratio_low": 0.59, "ratio_high": 0.61,
                               "measurement": 9}, 1e-3, {"latency_s": 0.00055})
    found = with_joint_measurement(TRIAL, {"4": entry})
    assert found["values"] == pytest.approx({**TRIAL["values"], "latency_ratio": 0.6,
                                             "latency_s": 0.0006})
    assert found["intervals"]["latency_s"] == pytest.approx([0.00059, 0.00061])
    assert found["intervals"]["accuracy"] == [0.97, 0.99]
    assert found["measurement"] == 9
    assert found["constraints"]["latency_s"] == pytest.approx(1 / 11), "now it breaks the bound"
    again = trial_point({**TRIAL, **found})
    assert again is not None and not again.feasible
    assert TRIAL["values"]["latency_s"] == 0.0005, "the trial keeps what the search saw"


@pytest.mark.parametrize("together", [{}, {"5": {"values": {"latency_s": 9.0}}},
                                      {"4": {"sha256": "f"}}])
def test_a_trial_that_was_not_measured_again_keeps_its_own(together: dict[str, Any]) -> None:
    assert with_joint_measurement(TRIAL, together) == {
        k: TRIAL[k] for k in ("values", "intervals", "constraints", "measurement", "sha256",
                              "reason")}


def test_points_are_what_was_measured_itself() -> None:
    found = trial_point(TRIAL)
    assert found is not None and found.feasible and found.values == TRIAL["values"]
    assert trial_point({**TRIAL, "state": "pruned"}) is None
    assert trial_point({**TRIAL, "reason": "latency is that of its untrained graph"}) is None
