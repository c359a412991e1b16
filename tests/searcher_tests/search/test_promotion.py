import pytest

from searcher.pareto.front import Point, excess, front_of
from searcher.pareto.hypervolume import REACH, hypervolume_gain
from searcher.search.promotion import shortfall, why_not_train, within_reach
from searcher.spec.objectives import Objective, Quality

ACCURACY = Quality("accuracy", "accuracy", "share", "maximize", 1.0)
COSTS = (Objective("latency_s", "minimize"), Objective("file_bytes", "minimize"))
OBJECTIVES = (ACCURACY.objective, *COSTS)
BASE = {"accuracy": 0.99, "latency_s": 1.0, "file_bytes": 1000.0}


def point(trial: int, accuracy: float, latency_s: float, file_bytes: float,
          feasible: bool = True) -> Point:
    return Point(trial, {"accuracy": accuracy, "latency_s": latency_s, "file_bytes": file_bytes},
                 feasible)


def test_excess_is_relative_to_known_bounds() -> None:
    bounds = {"quality_drop": 0.01, "latency_s": 2.0, "file_bytes": 100.0}
    found = excess({"quality_drop": 0.03, "latency_s": 1.0}, bounds, 1.0)
    assert found == pytest.approx({"quality_drop": 0.02, "latency_s": -0.5})
    assert excess({"file_bytes": 100.0}, bounds, 1.0) == {"file_bytes": 0.0}
    assert excess({"latency_s": 1.0}, {"latency_s": 0.0}, 1.0)["latency_s"] > 1


def test_the_front_has_feasible_points_by_latency() -> None:
    points = [point(1, 0.99, 1.0, 500), point(2, 0.98, 0.5, 400), point(3, 0.99, 0.1, 10, False),
              point(4, 0.97, 0.6, 450), point(5, 0.90, 0.9, 50)]
    assert [p.trial for p in front_of(points, OBJECTIVES)] == [2, 5, 1]
    assert front_of([], OBJECTIVES) == []


def test_shortfall_is_the_smallest_cut_that_helps() -> None:
    beaten = {"latency_s": 1.2, "file_bytes": 1100.0}
    others = [point(1, 0.99, 1.0, 1000)]
    assert shortfall(beaten, 0.99, others, OBJECTIVES) == pytest.approx(0.1)
    assert shortfall(beaten, 0.995, others, OBJECTIVES) == 0, "it may be more accurate"
    assert shortfall({**beaten, "latency_s": 0.9}, 0.99, others, OBJECTIVES) == 0
    assert shortfall(beaten, 0.99, [point(1, 0.99, 1.0, 1000, False)], OBJECTIVES) == 0
    equal = {"latency_s": 1.0, "file_bytes": 1000.0}
    assert shortfall(equal, 0.99, others, OBJECTIVES) > 0
    assert shortfall(beaten, 0.99, [*others, point(2, 0.99, 0.5, 500)],
                     OBJECTIVES) == pytest.approx(1.2)


def test_a_violated_constraint_before_training() -> None:
    reason, violated = why_not_train({"latency_s": 3.0, "file_bytes": 10.0}, {"latency_s": 2.0},
                                     0.99, [], OBJECTIVES) or ("", {})
    assert "latency_s is 3, allowed 2" in reason and violated == {"latency_s": 0.5}


def test_candidates_that_cannot_reach_the_front_are_not_trained() -> None:
    values = {"latency_s": 1.5, "file_bytes": 1500.0}
    reason, violated = why_not_train(values, {}, 0.99, [point(1, 0.99, 1.0, 1000)],
                                     OBJECTIVES) or ("", {})
    assert "cannot reach the front" in reason and "its accuracy is no worse than 0.99" in reason
    assert violated == {"reach": pytest.approx(0.5)}
    assert why_not_train(values, {"latency_s": 1.5}, 0.99, [], OBJECTIVES) is None


def test_within_reach_is_what_may_keep_the_constraint() -> None:
    allowed = {"quality_drop": 0.01}
    assert within_reach(0.5, {})
    assert within_reach(0.01, allowed)
    assert not within_reach(0.0101, allowed)


def test_halving_a_cost_gains_the_same_at_any_level() -> None:
    def gain(front: list[Point], file_bytes: float) -> float:
        return hypervolume_gain({**BASE, "latency_s": 0.5, "file_bytes": file_bytes}, front, BASE,
                       OBJECTIVES)

    first = gain([point(1, 0.99, 0.5, 1000 / 4)], 1000 / 8)
    second = gain([point(1, 0.99, 0.5, 1000 / 16)], 1000 / 32)
    assert first == pytest.approx(second) and first > 0


def test_dominated_points_gain_nothing() -> None:
    front = [point(1, 0.99, 0.5, 100)]
    dominated = {**BASE, "latency_s": 0.6, "file_bytes": 200.0}
    assert hypervolume_gain(dominated, front, BASE, OBJECTIVES) == 0
    assert hypervolume_gain(BASE, [], BASE, OBJECTIVES) == 0, "the baseline adds nothing to itself"
    worthless = {**BASE, "accuracy": BASE["accuracy"] - REACH, "latency_s": 0.1, "file_bytes": 1.0}
    assert hypervolume_gain(worthless, [], BASE, OBJECTIVES) == 0
