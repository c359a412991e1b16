"""A campaign whose metric is minimized and has no scale decides as one by accuracy does.

The error of a file is ``100 * (1.99 - accuracy)`` degrees: the baseline's is 100, so that one
degree is one point of accuracy.
"""

import base64
from typing import Any

import numpy as np
import pytest

from searcher.client.jobs import JobFlow
from searcher.documents import parse
from searcher.errors import TaskError, UserError
from searcher.jobs.evaluate import EvaluationResult
from searcher.ledger.tables.search_state import FileRef, SearchState
from searcher.search.baseline import establish
from searcher.search.device_quality import OnDevice
from searcher.statistics.score_codec import pack
from tests.searcher_tests.angle_error import BROKEN, TEXT
from tests.searcher_tests.fake_coordinator import (
    DEVICE,
    FakeCoordinator,
    Fate,
    N,
    Scripted,
    campaign,
    evaluation,
    requests_of,
    search_of,
)

FATES = {
    "good": Fate(0.5, 500, 0.985, wins=0.003), "small": Fate(0.6, 300, 0.98, wins=0.002),
    "beaten": Fate(0.7, 700, 0.975), "lost": Fate(0.3, 300, 0.9, short_accuracy=0.9),
    "slow": Fate(2.0, 2000, 0.99), "near": Fate(0.25, 250, 0.967, wins=0.005),
    "won": Fate(0.4, 450, 0.98, short_accuracy=0.962), "broken": Fate(0.45, 460, 0.955),
}


def degrees(accuracy: float) -> float:
    return 100 * (1.99 - accuracy)


def error(accuracy: float, metric: str = TEXT, scores: bool = True) -> dict[str, Any]:
    """Samples with errors around the mean, the same for every file."""
    rows = degrees(accuracy) + np.linspace(-3, 3, N)
    found: dict[str, Any] = {"metric": metric, "value": degrees(accuracy), "n": N}
    if scores:
        content, encoding = pack(rows)
        found |= {"scores": base64.b64encode(content).decode(), "encoding": encoding}
    return found


def ran(metric: str, judged: Any, allowed: float, **more: Any) -> FakeCoordinator:
    spec = campaign(metric, constraints={"quality_drop": allowed},
                    budget={"candidates": len(FATES), "wall_minutes": 60})
    client = FakeCoordinator(spec.as_dict(), dict(FATES), judged=judged)
    search_of(client, Scripted(*FATES), spec, extends=True, **more).run()
    assert client.state == "done"
    return client


@pytest.mark.parametrize("scores", [True, False])
def test_every_candidate_meets_the_same_end(scores: bool) -> None:
    expected = ran("accuracy", evaluation, 0.02)
    found = ran(TEXT, lambda accuracy: error(accuracy, scores=scores), 2.0)
    assert [j["payload"] for j in found.jobs] == [j["payload"] for j in expected.jobs]
    for mine, other in zip(found.rows, expected.rows, strict=True):
        assert mine["state"] == other["state"]
        assert mine["constraints"] == pytest.approx(other["constraints"], abs=1e-9)
        if "accuracy" in (other["values"] or {}):
            values = mine["values"]
            assert values["angle_error"] == pytest.approx(degrees(other["values"]["accuracy"]))
            assert values["quality_drop"] == pytest.approx(100 * other["values"]["quality_drop"])
            assert ("quality_drop" in mine["intervals"]) is scores
    assert found.search_state.extended == expected.search_state.extended != ()
    assert set(found.search_state.joint) == set(expected.search_state.joint)


def test_the_state_has_the_metric_with_the_magnitude_of_the_baseline() -> None:
    quality = ran(TEXT, error, 2.0).search_state.quality
    assert (quality.metric, quality.name, quality.unit) == (TEXT, "angle_error", "degree")
    assert quality.direction == "minimize" and quality.scale == pytest.approx(100.0)


def test_a_loss_is_positive_and_its_interval_holds_it() -> None:
    client = ran(TEXT, error, 2.0)
    values = client.search_state.joint[1].values or {}
    low, high = (client.search_state.joint[1].intervals or {})["quality_drop"]
    assert 0 < low <= values["quality_drop"] <= high


def test_the_front_of_a_device_goes_by_the_same_metric() -> None:
    there = OnDevice("it may compute in float16", lambda split: FileRef("1" * 64, 100))
    client = ran(TEXT, error, 2.0, on_device=there)
    found = client.search_state.baseline.on_device
    assert found is not None and found.values == {"angle_error": pytest.approx(100.0)}


def established(client: FakeCoordinator, known: SearchState | None = None) -> None:
    spec, api = campaign(TEXT), client
    flow: Any = JobFlow(api, "c", DEVICE)  # type: ignore[arg-type]
    establish(flow, requests_of(spec), known, 1)


def test_a_task_that_has_another_metric_than_before_ends_the_campaign() -> None:
    known = ran("accuracy", evaluation, 0.02).search_state
    client = FakeCoordinator(campaign(TEXT).as_dict(), judged=error)
    with pytest.raises(UserError, match=r"now has the metric .*AngleError.*begun with 'accuracy'"):
        established(client, known)


def test_a_metric_that_raises_is_named() -> None:
    with pytest.raises(TaskError, match=r"angle_error:Broken raised KeyError.*Correct the metric"):
        ran(BROKEN, lambda accuracy: error(accuracy, BROKEN), 2.0)


def test_an_evaluation_without_an_interval_of_its_own_gets_one() -> None:
    from searcher.search.baseline import scored_split

    scored = scored_split(parse(EvaluationResult, error(0.98)))
    assert scored.interval is not None and scored.interval[0] < 101 < scored.interval[1]
    bare = scored_split(parse(EvaluationResult, error(0.98, scores=False)))
    assert bare.interval is None and bare.scores is None
