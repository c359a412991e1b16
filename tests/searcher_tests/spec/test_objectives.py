"""The quality of a campaign against the metric of its task."""

import pytest

from searcher.errors import UserError
from searcher.spec.objectives import (
    Quality,
    costs_of,
    parse_objectives,
    quality_of,
    resolved,
    scale_of,
)

ERROR = Quality("mine:AngleError(limit=90)", "angle_error", "degree", "minimize", 4.0)
F1 = Quality("f1_macro", "f1_macro", "share", "maximize", 1.0)
COSTS = {"latency_s": "minimize", "file_bytes": "minimize"}


@pytest.mark.parametrize("asked", [
    {"quality": "best"}, {"quality": "minimize"}, {"angle_error": "minimize"},
    {"mine:AngleError(limit=90)": "minimize"}])
def test_the_metric_by_any_of_its_names(asked: dict[str, str]) -> None:
    found = resolved(parse_objectives({**COSTS, **asked}), ERROR)
    assert [o.name for o in found] == ["angle_error", "latency_s", "file_bytes"]
    quality = quality_of(found)
    assert (quality.direction, quality.unit, quality.scale) == ("minimize", "degree", 4.0)
    assert costs_of(found) == ["latency_s", "file_bytes"] and scale_of(found) == 4.0
    assert resolved(found, ERROR) == found


@pytest.mark.parametrize(("asked", "quality", "said"), [
    ({"accuracy": "maximize"}, F1,
     "Objective 'accuracy' is not the metric of the task, which is 'f1_macro'. "
     'Write quality = "best" or f1_macro = "maximize"'),
    ({"f1_macro": "minimize"}, F1, "'f1_macro', is better when it is larger. Write f1_macro = "
                                   '"maximize"'),
    ({"quality": "maximize"}, ERROR, 'better when it is smaller. Write quality = "minimize"'),
    ({"mine:AngleError(limit=90)": "maximize"}, ERROR,
     'Write "mine:AngleError(limit=90)" = "minimize"'),
    ({"quality": "best"}, Quality("mine:X", "latency_s", "", "minimize", 1.0),
     "'mine:X' has the name of another figure, 'latency_s'"),
    ({"quality": "best"}, Quality("mine:X", "quality_drop", "", "minimize", 1.0),
     "another figure, 'quality_drop'")])
def test_another_metric_or_direction_is_refused_with_that_of_the_task(
        asked: dict[str, str], quality: Quality, said: str) -> None:
    with pytest.raises(UserError) as caught:
        resolved(parse_objectives({**COSTS, **asked}), quality)
    assert said in str(caught.value)


def test_nothing_is_guessed_before_the_metric_is_known() -> None:
    quality = quality_of(parse_objectives({}))
    for refused in (lambda: quality.loss(1.0), lambda: quality.worsened(1.0, 0.1),
                    lambda: scale_of([quality])):
        with pytest.raises(ValueError, match="not resolved"):
            refused()


def test_worse_is_larger_for_a_metric_that_is_minimized() -> None:
    error, share = ERROR.objective, F1.objective
    assert (error.loss(3.0), error.worsened(3.0, 0.5), error.worsened(3.0, -0.5)) == (3.0, 3.5, 2.5)
    assert (share.loss(0.5), share.worsened(0.5, 0.25)) == (-0.5, 0.25)


def test_values_read_in_the_unit_of_the_metric() -> None:
    assert F1.objective.text(0.98765) == "98.77%"
    assert ERROR.objective.text(3.14159) == "3.142 degree"
    assert Quality("m", "m", "", "minimize", 1.0).objective.text(2.0) == "2"
