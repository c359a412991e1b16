"""Decisions about the candidates of one device; ``test_loop`` tests the loop that follows them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from searcher.client.jobs import JobFlow
from searcher.client.records import Trial
from searcher.documents import parse
from searcher.jobs.evaluate import EvaluationResult
from searcher.ledger.tables.search_state import SearchState
from searcher.search.candidate import SLACK, Candidate
from searcher.search.device_search import DeviceSearch, Refusal
from searcher.search.space import Space
from searcher.spec.recipe import Recipe, Step
from strategies.layers import layers_of
from tests.searcher_tests.fake_coordinator import (
    DEVICE,
    LEVEL_S,
    FakeCoordinator,
    campaign,
    evaluation,
    requests_of,
)
from tests.tasks_for_tests import network

ALLOWED = 0.02
"""Allowed accuracy drop; the accuracy of the baseline is 0.99."""
HALF = {"latency_s": 0.5 * LEVEL_S, "file_bytes": 500.0, "macs": 500.0}


def begun(known: SearchState | None = None, **changes: Any) -> tuple[DeviceSearch, FakeCoordinator]:
    """A search with an established baseline: 1 ms, 1000 bytes, accuracy 0.99."""
    spec = campaign(**changes)
    client: Any = FakeCoordinator(spec.as_dict())
    space = Space.of(spec, layers_of(network()), frozenset({"float32", "int8"}))
    search = DeviceSearch(requests_of(spec), DEVICE, space, notes=["a note"])
    search.begin(JobFlow(client, "c", DEVICE), known, threads=3)
    return search, client


@pytest.fixture
def search() -> DeviceSearch:
    return begun()[0]


def recipe(number: int = 0) -> Recipe:
    return Recipe((Step.of("svd", "model", {"rank": number + 1}),))


def candidate(number: int, values: Mapping[str, float] = HALF, stage: str = "waiting",
              accuracy: float | None = None, **changes: float) -> Candidate:
    made = Candidate(number, number, recipe(number), stage, values={**values, **changes})
    if accuracy is not None:
        made.values |= {"accuracy": accuracy, "quality_drop": 0.99 - accuracy}
    return made


def short(number: int, accuracy: float, **changes: float) -> Candidate:
    """After short training."""
    made = candidate(number, accuracy=accuracy, **changes)
    made.fidelity = "short"
    return made


def trial(number: int, accuracy: float, state: str = "complete", **changes: Any) -> Trial:
    values = {**HALF, "accuracy": accuracy, "quality_drop": 0.99 - accuracy}
    return parse(Trial, {
        "id": number, "campaign": "c", "device": DEVICE, "number": number,
        "recipe": recipe(number).hash, "steps": recipe(number).as_list(), "options": {},
        "parameters": {}, "state": state, "values": values, "intervals": {},
        "constraints": {"quality_drop": values["quality_drop"] - ALLOWED}, "reason": None,
        "message": None, "sha256": f"{number:064x}", "evaluations": None, "measurement": 1,
        "started_s": 0.0, "finished_s": None, **changes})


# -- the baseline, and what an earlier search knew ------------------------------------------------


def test_a_known_baseline_is_built_and_not_measured_again(search: DeviceSearch) -> None:
    known = search.state(4.0, 0.0, (), ())
    assert known.notes == ("a note",) and known.baseline.measurement == 7
    other = replace(known, baseline=replace(known.baseline, sha256="0" * 64, quiet_level_s=2e-3))
    again, client = begun(other)
    assert client.of_kind("measure") == []
    assert [p["threads"] for p in client.of_kind("train")] == [3], "nothing goes on beside it"
    state = again.baseline.state
    assert state.quiet_level_s == 2e-3 and state.values == known.baseline.values
    assert state.sha256 == known.baseline.sha256, "the file is the one that was built now"
    assert again.baseline.scored.scores.sum() == 990


def test_resume_restores_the_front_from_feasible_trials(
    search: DeviceSearch,
) -> None:
    rows = [trial(1, 0.985), trial(2, 0.98, reason="latency is that of its untrained graph"),
            trial(3, 0.9), trial(4, 0.99, "pruned"), trial(5, 0.988, "running", values=None),
            trial(6, 0.98, values={"file_bytes": 1.0}, state="failed")]
    search.resume(rows)
    assert [p.trial for p in search.front([])] == [1]


def test_resume_corrects_drops_of_short_training(search: DeviceSearch) -> None:
    full, short = trial(1, 0.985), trial(2, 0.985, "pruned")
    search.resume([full, short])
    drops = [search._acquisition.expected(row.built_from, row.values or {})[0].drop
             for row in (full, short)]
    assert drops[0] == pytest.approx(0.005) and drops[1] < 0.005, "full training wins back"


# -- before training ------------------------------------------------------------------------------


def test_a_trained_candidate_without_measurement_competes(search: DeviceSearch) -> None:
    search.resume([trial(1, 0.975)])
    held = candidate(2, stage="measuring again", accuracy=0.98)
    flow = [held, candidate(3), candidate(4, stage="full", accuracy=0.99)]
    assert [p.trial for p in search.competing_points(flow)] == [1, 2]
    assert [p.trial for p in search.front(flow)] == [2]
    assert [p.trial for p in search.front([])] == [1], "and none once it is gone"


def test_training_must_be_able_to_reach_the_most_accurate_point(search: DeviceSearch) -> None:
    slower = candidate(1, latency_s=0.6 * LEVEL_S, file_bytes=600.0)
    assert search.why_not_train(slower, []) is None
    accurate = search.competing_points([candidate(2, stage="measuring again", accuracy=0.995)])
    refused = search.why_not_train(slower, accurate)
    assert refused is not None and refused.reason.endswith("its accuracy is no worse than 0.995")
    assert refused.constraints == {"reach": pytest.approx(0.6 * (1 - SLACK) / 0.5 - 1)}
    worse = search.competing_points([candidate(2, stage="measuring again", accuracy=0.98)])
    assert search.why_not_train(slower, worse) is None, "it may be as accurate as the baseline"


def test_slack_applies_to_the_latency_constraint() -> None:
    search, _ = begun(constraints={"latency_s": 0.5 * LEVEL_S})
    near = candidate(1, latency_s=0.5 * LEVEL_S / (1 - SLACK) * 0.999)
    assert search.why_not_train(near, []) is None
    far = search.why_not_train(candidate(2, latency_s=0.5 * LEVEL_S / (1 - SLACK) * 1.1), [])
    assert far is not None and far.constraints == {"latency_s": pytest.approx(0.1)}


# -- after training -------------------------------------------------------------------------------


def test_quality_drop_is_paired_with_the_baseline(search: DeviceSearch) -> None:
    made = candidate(1, stage="full")
    search.add_evaluation(made, parse(EvaluationResult, evaluation(0.98)), "full")
    assert made.values["accuracy"] == 0.98
    assert made.values["quality_drop"] == pytest.approx(0.01)
    assert set(made.intervals) == {"accuracy", "quality_drop"}
    expected, _ = search._acquisition.expected(made.recipe, made.values)
    assert expected.drop == pytest.approx(0.01)


@pytest.mark.parametrize(("accuracy", "kept"), [(0.97, True), (0.9699, False)])
def test_keeps_accuracy_up_to_the_allowed_drop(accuracy: float, kept: bool) -> None:
    made = candidate(1, accuracy=accuracy)
    made.values["quality_drop"] = round(0.99 - accuracy, 6)
    assert begun()[0].keeps_quality(made) is kept
    assert begun(constraints={})[0].keeps_quality(made), "without a constraint all is kept"


def test_full_training_needs_a_recoverable_drop(
    search: DeviceSearch,
) -> None:
    assert search.why_not_continue(short(1, 0.99 - 1.5 * ALLOWED), []) is None
    lost = 0.99 - 20 * ALLOWED
    assert search.why_not_continue(short(1, lost), []) == Refusal(
        "short training lost 40.00%, more than training wins back",
        {"quality_drop": pytest.approx(19 * ALLOWED)})
    assert begun(constraints={})[0].why_not_continue(short(1, lost), []) is None


def test_full_training_must_be_able_to_reach_the_front(search: DeviceSearch) -> None:
    made = short(1, 0.95, latency_s=0.6 * LEVEL_S, file_bytes=600.0)
    for _ in range(9):
        search._acquisition.outcomes.add("short", 0.04, "full", 0.024)
    near = search.competing_points([candidate(2, stage="measuring again", accuracy=0.955)])
    assert search.why_not_continue(made, near) is None
    far = search.competing_points([candidate(2, stage="measuring again", accuracy=0.986)])
    assert search.why_not_continue(made, far) == Refusal(
        "cannot reach the front with what short training gave",
        {"reach": pytest.approx(0.6 * (1 - SLACK) / 0.5 - 1)})


def test_only_measured_points_prevent_a_measurement(
    search: DeviceSearch,
) -> None:
    made = candidate(1, accuracy=0.98, latency_s=0.6 * LEVEL_S, file_bytes=600.0)
    assert search.is_worth_measuring(made)
    assert not search.is_worth_measuring(candidate(1, accuracy=0.96)), "it breaks a constraint"
    better = candidate(2, stage="measuring again", accuracy=0.985)
    assert [p.trial for p in search.front([better])] == [2] and search.is_worth_measuring(made)
    search.complete(better, measured=True)
    assert not search.is_worth_measuring(made)


def test_complete_returns_the_reason(search: DeviceSearch) -> None:
    reason, constraints = search.complete(candidate(1, accuracy=0.98), measured=False)
    assert reason is not None and reason.startswith("another candidate is better")
    assert constraints == {"quality_drop": pytest.approx(-0.01)} and search.front([]) == []
    reason, constraints = search.complete(candidate(2, accuracy=0.96), measured=False)
    assert reason == "breaks a constraint"
    assert constraints == {"quality_drop": pytest.approx(0.01)} and search.front([]) == []
    made = candidate(3, accuracy=0.96)
    assert search.complete(made, measured=True)[0] is None
    assert search.front([]) == [], "measured, and beyond a constraint"
    assert search.complete(candidate(4, accuracy=0.98), measured=True)[0] is None
    [point] = search.front([])
    assert point.trial == 4 and point.feasible


# -- the end --------------------------------------------------------------------------------------


def test_without_extended_training_only_held_candidates_are_unmeasured(
    search: DeviceSearch,
) -> None:
    rows = [trial(1, 0.985), trial(2, 0.0, "running", values=None, sha256=None)]
    held = candidate(2, accuracy=0.98)
    held.sha256 = "f" * 64
    jobs: Any = None
    found, unmeasured = search.extend_front(jobs, rows, {2: held}, 1, None)
    assert unmeasured == {2} and found[0] is rows[0]
    assert (found[1].state, found[1].sha256, found[1].reason) == ("complete", "f" * 64, None)
    assert found[1].values == held.values and found[1].built_from == recipe(2)
    assert found[1].constraints == {"quality_drop": pytest.approx(-0.01)}
    assert rows[1].state == "running", "the ledger is not updated yet"
