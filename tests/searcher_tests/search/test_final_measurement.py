"""The end of a campaign on scripted candidates: joint measurement and evaluation on the test
split."""

from typing import Any

import pytest

from searcher.ledger.tables.search_state import JointEntry
from searcher.search.final_measurement import _groups
from searcher.search.measurement_batches import BATCH
from tests.searcher_tests.fake_coordinator import (
    LEVEL_S,
    FakeCoordinator,
    Fate,
    Killed,
    Scripted,
    campaign,
    search_of,
)


def front_of_three() -> dict[str, Fate]:
    """Faster candidates are less accurate."""
    return {"a": Fate(0.8, 800, 0.99), "b": Fate(0.5, 500, 0.985), "c": Fate(0.3, 300, 0.98)}


def ran(fates: dict[str, Fate], **changes: Any) -> tuple[FakeCoordinator, dict[str, Any]]:
    spec = campaign(budget={"candidates": len(fates), "wall_minutes": 60}, **changes)
    client = FakeCoordinator(spec.as_dict(), dict(fates))
    search_of(client, Scripted(*fates), spec).run()
    return client, {row["steps"][0]["strategy"]: row for row in client.rows}


def together_jobs(client: FakeCoordinator) -> list[dict[str, Any]]:
    return [p for p in client.of_kind("measure") if p["plan"]["name"] == "quick-together"]


def test_joint_measurement_keeps_the_figures_of_trials() -> None:
    fates = front_of_three()
    fates["b"].changes = 0.6
    client, rows = ran(fates)
    (job,) = together_jobs(client)
    assert [f["sha256"] for f in job["candidates"]] == [rows[n]["sha256"] for n in "cba"]
    assert client.search_state.joint[rows["b"]["id"]].values == pytest.approx(
        {**rows["b"]["values"], "latency_ratio": 0.6, "latency_s": 0.6 * LEVEL_S})
    assert rows["b"]["values"]["latency_s"] == pytest.approx(0.5 * LEVEL_S)


def test_a_point_dominated_in_the_joint_measurement_is_not_tested() -> None:
    fates = {"a": Fate(0.51, 500, 0.985), "b": Fate(0.5, 500, 0.98)}
    fates["b"].changes = 0.52
    client, rows = ran(fates)
    tested = {p["sha256"] for p in client.of_kind("evaluate")}
    assert tested == {rows["a"]["sha256"], client.search_state.baseline.sha256}


def test_busy_files_are_repeated_and_then_keep_their_figures() -> None:
    fates = front_of_three()
    fates["b"].busy_together = 2
    client, rows = ran(fates)
    jobs = together_jobs(client)
    assert [len(job["candidates"]) for job in jobs] == [3, 1, 1]
    assert len({job["attempt"] for job in jobs}) == 3
    joint = client.search_state.joint
    assert len(joint) == 3 and all(entry.values is not None for entry in joint.values())
    fates = front_of_three()
    fates["b"].busy_together = 10**6
    client, rows = ran(fates)
    assert client.search_state.joint[rows["b"]["id"]] == JointEntry(
        rows["b"]["sha256"], reason="busy")
    assert all(job["quiet_level_s"] is not None for job in together_jobs(client)), \
        "a figure of a quiet machine is not given up for one of a busy machine"
    assert rows["b"]["sha256"] in {p["sha256"] for p in client.of_kind("evaluate")}


def test_a_crashed_file_is_not_repeated() -> None:
    fates = front_of_three()
    fates["b"].crashes_together = True
    client, _ = ran(fates)
    assert len(together_jobs(client)) == 1 and client.state == "done"


def test_a_killed_search_repeats_no_joint_measurement() -> None:
    spec = campaign(budget={"candidates": 3, "wall_minutes": 60})
    client = FakeCoordinator(spec.as_dict(), front_of_three())
    client.dies_on = "evaluate"
    with pytest.raises(Killed):
        search_of(client, Scripted("a", "b", "c"), spec).run()
    measured = len(client.of_kind("measure"))
    assert client.search_state.joint
    client.dies_on = None
    search_of(client, Scripted("a", "b", "c"), spec).run()
    assert len(client.of_kind("measure")) == measured and client.state == "done"


def test_a_single_point_is_not_measured_again() -> None:
    client, _ = ran({"a": Fate(0.8, 800, 0.99)})
    assert together_jobs(client) == [] and client.state == "done"


# -- what was trained, and not measured when the time was up ------------------------------------


def cut_short(fates: dict[str, Fate]) -> tuple[FakeCoordinator, dict[str, Any]]:
    """The search time ends while trained candidates wait for the device."""
    spec = campaign(budget={"candidates": len(fates), "wall_minutes": 1})
    client = FakeCoordinator(spec.as_dict(), dict(fates))
    search = search_of(client, Scripted(*fates), spec, threads=len(fates))
    trained = 2 * len(fates)  # short and full
    began = []

    def now_s() -> float:
        done = [j for j in client.jobs if j["kind"] == "train" and j["state"] == "done"]
        if len(done) > trained and not began:
            client.now_s += 60.0
            began.append(True)
        return client.now_s

    search.now_s = now_s
    search.run()
    return client, {row["steps"][0]["strategy"]: row for row in client.rows}


def measured_trained(client: FakeCoordinator) -> list[str]:
    """The plans of the measurements of trained files."""
    return [p["plan"]["name"] for p in client.of_kind("measure")
            if any(client.files[f["sha256"]][1] == "full" for f in p["candidates"])]


def test_held_candidates_are_measured_with_the_front() -> None:
    client, rows = cut_short({"a": Fate(0.5, 500, 0.98)})
    assert measured_trained(client) == ["quick", "quick-together"], "the first is the baseline's"
    row = rows["a"]
    assert (row["state"], row["reason"], row["measurement"]) == ("complete", None, 8)
    assert row["intervals"]["latency_s"] == pytest.approx([0.495 * LEVEL_S, 0.505 * LEVEL_S])
    assert row["sha256"] in {p["sha256"] for p in client.of_kind("evaluate")}


def test_the_last_attempt_uses_the_current_quiet_level() -> None:
    client, rows = cut_short({"a": Fate(0.5, 500, 0.98, busy_together=10**6)})
    levels = [job["quiet_level_s"] for job in together_jobs(client)]
    assert len(levels) > 1 and levels[-1] is None and None not in levels[:-1]
    assert rows["a"]["state"] == "complete" and rows["a"]["reason"] is None


def test_a_crashed_held_candidate_fails_alone() -> None:
    client, rows = cut_short({"a": Fate(0.5, 500, 0.98, crashes_together=True),
                              "b": Fate(0.4, 600, 0.98)})
    assert (rows["a"]["state"], rows["a"]["reason"]) == ("failed", "crashed: signal 9")
    assert (rows["b"]["state"], rows["b"]["reason"]) == ("complete", None)


def test_dominated_held_candidates_are_not_measured() -> None:
    client, rows = cut_short({"a": Fate(0.5, 500, 0.98), "b": Fate(0.2, 200, 0.985)})
    (job,) = together_jobs(client)
    assert [f["sha256"] for f in job["candidates"]] == [rows["b"]["sha256"]]
    assert rows["a"]["state"] == "complete" and "untrained graph" in rows["a"]["reason"]


def test_groups_are_bounded_by_number_and_by_memory() -> None:
    trials: list[Any] = list(range(150))
    assert [len(g) for g in _groups(trials, 1000)] == [64, 64, 22]
    assert [len(g) for g in _groups(trials[:20], 100 * 2**20)] == [BATCH, BATCH, 4]
    assert [t for g in _groups(trials, 2**24) for t in g] == trials
