"""Extended training of the expected front at the end of the search."""

from typing import Any

import pytest

from searcher.client.records import Trial
from searcher.pareto.front import front_of
from searcher.pareto.joint import trial_point, with_joint_measurement
from searcher.search.extended_training import TIME_FRACTION
from searcher.search.final_measurement import final_files
from tests.searcher_tests.fake_coordinator import (
    DEVICE,
    FakeCoordinator,
    Fate,
    Killed,
    Scripted,
    campaign,
    requests_of,
    search_of,
)

MOST = 0.02
"""Allowed accuracy drop; the accuracy of the baseline is 0.99."""
GAIN = 0.01
"""What training is expected to win back of it, before anything is known."""


def started(fates: dict[str, Fate], wall_minutes: float = 60) -> tuple[Any, FakeCoordinator]:
    spec = campaign(budget={"candidates": len(fates), "wall_minutes": wall_minutes})
    return spec, FakeCoordinator(spec.as_dict(), dict(fates))


def ran(fates: dict[str, Fate], **changes: Any) -> tuple[FakeCoordinator, dict[str, Trial]]:
    """Trials by name, with their joint figures, after the campaign."""
    spec, client = started(fates, **changes)
    search_of(client, Scripted(*fates), spec, extends=True).run()
    return client, final(client)


def final(client: FakeCoordinator) -> dict[str, Trial]:
    joint = client.search_state.joint
    return {row.built_from.steps[0].strategy: with_joint_measurement(row, joint)
            for row in client.trials("c")}


def file_of(client: FakeCoordinator, row: Trial) -> tuple[str, str]:
    """Recipe and fidelity of its file."""
    return client.files[row.sha256 or ""]


def extended(client: FakeCoordinator) -> list[str]:
    return [p["recipe"][0]["strategy"] for p in client.of_kind("train")
            if p["fidelity"] == "extended"]


def on_front(client: FakeCoordinator) -> set[str]:
    files = final_files(
        requests_of(campaign()), client.trials("c"), client.search_state.joint)
    return {client.files[sha256][0] for sha256 in files}


def test_extended_files_of_the_front_are_measured_and_tested() -> None:
    fates = {"a": Fate(0.8, 800, 0.985, wins=0.003), "b": Fate(0.5, 500, 0.98, wins=0.004)}
    client, rows = ran(fates)
    assert set(extended(client)) == {"a", "b"} and on_front(client) == {"a", "b"}
    for name, accuracy in (("a", 0.988), ("b", 0.984)):
        values, intervals = rows[name].values or {}, rows[name].intervals or {}
        assert values["accuracy"] == pytest.approx(accuracy)
        assert values["quality_drop"] == pytest.approx(0.99 - accuracy)
        low, high = intervals["quality_drop"]
        assert low < 0.99 - accuracy < high
        assert file_of(client, rows[name]) == (name, "extended")
        assert rows[name].sha256 in {p["sha256"] for p in client.of_kind("evaluate")}
    together = [p for p in client.of_kind("measure") if p["plan"]["name"] == "quick-together"]
    assert {f["sha256"] for f in together[-1]["candidates"]} == {r.sha256 for r in rows.values()}
    rows = {row["steps"][0]["strategy"]: row for row in client.rows}
    assert rows["a"]["values"]["accuracy"] == pytest.approx(0.985), "what the search saw stays"


def test_a_task_without_extended_epochs() -> None:
    spec, client = started({"a": Fate(0.8, 800, 0.985)})
    search_of(client, Scripted("a"), spec).run()
    assert extended(client) == []


def test_a_nearly_feasible_candidate_may_join_the_front() -> None:
    lost = 0.99 - MOST
    fates = {"a": Fate(0.8, 800, 0.985),
             "near": Fate(0.4, 400, lost - GAIN / 2, wins=GAIN),
             "still": Fate(0.45, 350, lost - GAIN / 2, wins=0.001),
             "far": Fate(0.2, 200, lost - 1.5 * GAIN, wins=0.02)}
    client, rows = ran(fates)
    assert "far" not in extended(client) and {"near", "still"} <= set(extended(client))
    assert on_front(client) == {"a", "near"}
    assert rows["near"].reason is None and rows["near"].measurement == 8
    assert rows["still"].reason == "breaks a constraint"
    point = trial_point(rows["near"])
    assert point is not None and front_of([point], campaign().objectives) == [point]


def test_an_infeasible_extended_file_is_discarded() -> None:
    client, rows = ran({"a": Fate(0.8, 800, 0.985), "b": Fate(0.5, 500, 0.971, wins=-0.01)})
    assert "b" in extended(client)
    assert (rows["b"].values or {})["accuracy"] == pytest.approx(0.971)
    assert file_of(client, rows["b"]) == ("b", "full") and on_front(client) == {"a", "b"}


def test_a_failed_extended_training_changes_nothing() -> None:
    client, rows = ran({"a": Fate(0.8, 800, 0.985, fails=("extended", "nan_loss"))})
    assert client.state == "done" and file_of(client, rows["a"]) == ("a", "full")
    assert rows["a"].state == "complete" and on_front(client) == {"a"}


def test_dominated_candidates_get_no_extended_training() -> None:
    fates = {"good": Fate(0.5, 500, 0.985), "beaten": Fate(0.8, 800, 0.98)}
    client, _ = ran(fates)
    assert extended(client) == ["good"]


def test_extended_training_keeps_its_time_fraction() -> None:
    """Each training takes ten seconds; all run at once."""
    names = {f"n{i:02d}": Fate(0.9 - 0.02 * i, 900 - 20 * i, 0.988 - 0.0005 * i)
             for i in range(40)}
    client, _ = ran(names, wall_minutes=5)
    budget_s = 300.0
    order = [j["payload"]["fidelity"] for j in client.jobs if j["kind"] == "train"]
    first = order.index("extended")
    assert set(order[first:]) == {"extended"} and 0 < len(extended(client)) < len(on_front(client))
    assert len(client.search_state.extended) == len(extended(client))
    begun = [j for j in client.jobs if j["payload"].get("fidelity") == "extended"]
    assert len(begun) <= budget_s * TIME_FRACTION / 10 + 2, "one waits while one is trained"


def test_a_held_candidate_completes_with_its_extended_file() -> None:
    fates = {"a": Fate(0.8, 800, 0.985, wins=0.003), "b": Fate(0.5, 500, 0.98, wins=0.004)}
    spec, client = started(fates)
    search = search_of(client, Scripted(*fates), spec, threads=len(fates), extends=True)
    jumped: list[bool] = []

    def now_s() -> float:
        """The search time is over once all candidates are trained, the time for extended training
        is not."""
        done = [j for j in client.jobs if j["kind"] == "train" and j["state"] == "done"]
        if len(done) > 2 * len(fates) and not jumped:
            client.now_s += 3600.0 * (1 - TIME_FRACTION)
            jumped.append(True)
        return client.now_s

    search.now_s = now_s
    search.run()
    rows = {row["steps"][0]["strategy"]: row for row in client.rows}
    for name, accuracy in (("a", 0.988), ("b", 0.984)):
        row = rows[name]
        assert (row["state"], row["reason"], row["measurement"]) == ("complete", None, 8)
        assert client.files[row["sha256"]] == (name, "extended")
        assert row["values"]["accuracy"] == pytest.approx(accuracy)
    plans = [p["plan"]["name"] for p in client.of_kind("measure")
             if any(client.files[f["sha256"]][1] == "extended" for f in p["candidates"])]
    assert plans == ["quick-together"] and on_front(client) == {"a", "b"}


def test_a_killed_search_repeats_no_extended_training() -> None:
    fates = {"a": Fate(0.8, 800, 0.985, wins=0.003), "b": Fate(0.5, 500, 0.98, wins=0.004)}
    undisturbed, expected = ran(fates)
    spec, client = started(fates)
    client.dies_on = "evaluate"
    with pytest.raises(Killed):
        search_of(client, Scripted(*fates), spec, extends=True).run()
    trained = len(client.of_kind("train"))
    client.dies_on = None
    client.now_s += 3600.0
    client.states[DEVICE]["searched_s"] = 3600.0  # its time is up
    search_of(client, Scripted(*fates), spec, extends=True).run()
    assert len(client.of_kind("train")) == trained and client.state == "done"
    assert {n: r.sha256 for n, r in final(client).items()} == {
        n: r.sha256 for n, r in expected.items()}
    assert undisturbed.state == "done"
