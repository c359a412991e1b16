import pytest
from hypothesis import given
from hypothesis import strategies as st

from searcher.errors import UserError
from searcher.pareto.front import front_indices, losses
from searcher.pareto.hypervolume import hypervolume, volume
from searcher.spec.objectives import COSTS, MEASURABLE, Objective, parse_objectives


def dominates(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Reference for ``front_indices``: not worse on every axis and better on one."""
    pairs = list(zip(first, second, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def test_objectives_know_their_unit() -> None:
    found = parse_objectives({"quality": "best", **dict.fromkeys(MEASURABLE, "minimize")})
    assert {o.name: o.unit for o in found[1:]} == {name: COSTS[name] for name in MEASURABLE}


@pytest.mark.parametrize(("name", "direction", "said"), [
    ("latency", "minimize", "Unknown objective 'latency'. Did you mean 'latency_s'?"),
    ("accuracy", "up", "accuracy = 'up' must be minimize or maximize"),
])
def test_wrong_objectives(name: str, direction: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_objectives({name: direction, "file_bytes": "minimize"})
    assert said in str(caught.value)


def test_losses_are_smaller_when_better() -> None:
    objectives = [Objective("accuracy", "maximize", "quality"), Objective("latency_s", "minimize")]
    assert losses({"latency_s": 2.0, "accuracy": 0.9}, objectives) == (-0.9, 2.0)


def test_volumes_known_by_hand() -> None:
    assert volume([(1, 1)], (3, 3)) == pytest.approx(4)
    assert volume([(1, 2), (2, 1)], (3, 3)) == pytest.approx(3)
    assert volume([(1, 2, 0), (2, 1, 0)], (3, 3, 2)) == pytest.approx(6)
    assert volume([], (1, 1)) == 0
    assert volume([(3, 0), (4, 4)], (3, 3)) == 0, "on or beyond the reference adds nothing"
    assert volume([(1, 1), (2, 2)], (3, 3)) == volume([(1, 1)], (3, 3))


def test_the_unit_of_an_axis_does_not_matter() -> None:
    in_seconds = hypervolume([(-0.99, 0.001), (-0.95, 0.0005)], (-0.94, 0.002))
    in_microseconds = hypervolume([(-0.99, 1000), (-0.95, 500)], (-0.94, 2000))
    assert in_seconds == pytest.approx(in_microseconds)
    assert hypervolume([(1.0, 1.0)], (2.0, 2.0)) == pytest.approx(0.25)
    assert hypervolume([(-1.0, 1.0)], (0.0, 2.0)) == pytest.approx(0.5), "0 scales by one"


def test_of_equal_points_the_first_stays() -> None:
    assert front_indices([]) == []
    assert front_indices([(1, 1), (1, 1), (0, 2), (2, 2)]) == [0, 2]


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=20))
def test_the_front_is_what_nobody_dominates(points: list[tuple[int, int, int]]) -> None:
    kept = front_indices(points)
    for index, point in enumerate(points):
        beaten = any(dominates(p, point) for p in points)
        again = point in points[:index]
        assert (index in kept) == (not beaten and not again)
