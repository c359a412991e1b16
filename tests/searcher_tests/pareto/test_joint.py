"""Rules by which a joint measurement of the front replaces earlier measurements."""

from dataclasses import replace

import pytest

from searcher.client.records import Trial
from searcher.documents import parse
from searcher.ledger.tables.search_state import JointEntry, JointMeasurement
from searcher.pareto.joint import NEAR, contenders, trial_point, with_joint_measurement
from searcher.search.final_measurement import (
    MAX_BLOCKS,
    MIN_BLOCKS,
    joint_entry,
    joint_plan,
)
from searcher.spec.measurement_plan import PLANS
from searcher.statistics.measured import FileMeasurement
from tests.searcher_tests.fake_coordinator import campaign, requests_of
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
    quick = joint_plan(PLANS["quick"], 1)
    assert (quick.name, quick.min_blocks) == ("quick-together", MAX_BLOCKS)
    assert joint_plan(PLANS["quick"], 2).min_blocks == PLANS["quick"].min_blocks
    assert joint_plan(PLANS["quick"], 3).min_blocks == MIN_BLOCKS
    strict = joint_plan(PLANS["strict"], 1)
    assert strict.min_blocks == PLANS["strict"].min_blocks and not strict.memory
    assert strict.processes == PLANS["strict"].processes


VALUES = {"accuracy": 0.98, "latency_ratio": 0.5, "latency_s": 0.0005, "file_bytes": 10.0}
TRIAL = parse(Trial, {
    "id": 4, "campaign": "c", "device": "d", "number": 3, "recipe": "r", "options": {},
    "parameters": {}, "state": "complete", "reason": None, "message": None, "sha256": "f",
    "measurement": 7, "values": VALUES,
    "intervals": {"accuracy": [0.97, 0.99], "latency_s": [0.00049, 0.00051]},
    "constraints": {"latency_s": -0.1}, "evaluations": None, "started_s": 0.0,
    "finished_s": 1.0})


def test_what_was_measured_together_replaces_latency_and_nothing_else() -> None:
    measured = FileMeasurement(
        "f", "valid", measurement=9, ratio=0.6, ratio_low=0.59, ratio_high=0.61)
    entry = joint_entry(
        TRIAL, measured, 1e-3, requests_of(campaign(constraints={"latency_s": 0.00055})))
    found = with_joint_measurement(TRIAL, {4: entry})
    intervals, constraints = found.intervals or {}, found.constraints or {}
    assert found.values == pytest.approx({**VALUES, "latency_ratio": 0.6, "latency_s": 0.0006})
    assert intervals["latency_s"] == pytest.approx([0.00059, 0.00061])
    assert intervals["accuracy"] == [0.97, 0.99]
    assert found.measurement == 9
    assert constraints["latency_s"] == pytest.approx(1 / 11), "now it breaks the bound"
    again = trial_point(found)
    assert again is not None and not again.feasible
    assert (TRIAL.values or {})["latency_s"] == 0.0005, "the trial keeps what the search saw"


@pytest.mark.parametrize("joint", [
    {}, {5: JointEntry("g", values={"latency_s": 9.0})}, {4: JointEntry("f")}])
def test_a_trial_that_was_not_measured_again_keeps_its_own(joint: JointMeasurement) -> None:
    assert with_joint_measurement(TRIAL, joint) == TRIAL


def test_points_are_what_was_measured_itself() -> None:
    found = trial_point(TRIAL)
    assert found is not None and found.feasible and found.values == VALUES
    assert trial_point(replace(TRIAL, state="pruned")) is None
    assert trial_point(replace(TRIAL, reason="latency is that of its untrained graph")) is None
