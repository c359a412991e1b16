"""Candidates have a quality after repair: they are points of the front before any training."""

from dataclasses import replace
from typing import Any

import pytest

from searcher.search.candidate import Candidate
from searcher.search.learnt.effort import RECENT
from searcher.search.sampling import STARTUP_TRIALS
from tests.searcher_tests.fake_coordinator import (
    LEVEL_S,
    FakeCoordinator,
    Fate,
    Killed,
    Scripted,
    campaign,
    search_of,
)
from tests.searcher_tests.search.test_rungs import FACTS


def ran(fates: dict[str, Fate], search: dict[str, Any] | None = None, **changes: Any
        ) -> tuple[FakeCoordinator, dict[str, dict[str, Any]]]:
    spec = campaign(**{"budget": {"candidates": len(fates), "wall_minutes": 60}, **changes,
                       "search": search or {}})
    client = FakeCoordinator(spec.as_dict(), dict(fates))
    search_of(client, Scripted(*fates), spec).run()
    return client, by_name(client)


def by_name(client: FakeCoordinator) -> dict[str, dict[str, Any]]:
    return {row["steps"][0]["strategy"]: row for row in client.rows}


def file_of(client: FakeCoordinator, row: dict[str, Any]) -> tuple[str, str]:
    return client.files[row["sha256"]]


def trained(client: FakeCoordinator) -> set[str]:
    return {p["recipe"][0]["strategy"] for p in client.of_kind("train") if p["recipe"]}


def test_without_training_the_front_has_repaired_files() -> None:
    fates = {"a": Fate(0.5, 500, repaired_accuracy=0.98), "b": Fate(0.3, 300, 0.99,
             repaired_accuracy=0.975), "worse": Fate(0.6, 600, repaired_accuracy=0.97),
             "lost": Fate(0.1, 100, 0.99, repaired_accuracy=0.9)}
    client, rows = ran(fates, {"train": False})
    assert trained(client) == set() and client.state == "done"
    for name in ("a", "b"):
        assert (rows[name]["state"], rows[name]["reason"]) == ("complete", None)
        assert file_of(client, rows[name]) == (name, "repaired")
    assert rows["worse"]["state"] == "pruned" and "front" in rows["worse"]["reason"]
    assert rows["lost"]["state"] == "pruned" and "repair lost 9.00%" in rows["lost"]["reason"]
    measured = {f["sha256"] for p in client.of_kind("measure") for f in p["candidates"]}
    assert rows["lost"]["sha256"] not in measured, "refused before it is measured"
    assert rows["lost"]["values"]["quality_drop"] == pytest.approx(0.09)
    tested = {p["sha256"] for p in client.of_kind("evaluate")}
    assert tested >= {rows["a"]["sha256"], rows["b"]["sha256"]}


def test_training_that_wins_nothing_leaves_the_repaired_file() -> None:
    client, rows = ran({"a": Fate(0.5, 500, accuracy=0.96, repaired_accuracy=0.985)})
    assert trained(client) == {"a"}, "there are no other candidates"
    assert rows["a"]["state"] == "complete" and file_of(client, rows["a"]) == ("a", "repaired")
    assert rows["a"]["values"]["accuracy"] == pytest.approx(0.985)
    assert rows["a"]["values"]["latency_s"] == pytest.approx(0.5 * LEVEL_S)


@pytest.mark.parametrize("fidelity", ["short", "full"])
def test_a_failed_training_leaves_the_repaired_file(fidelity: str) -> None:
    client, rows = ran({"a": Fate(0.5, 500, repaired_accuracy=0.985,
                                  fails=(fidelity, "nan_loss"))})
    assert rows["a"]["state"] == "complete" and file_of(client, rows["a"]) == ("a", "repaired")


def test_training_improves_what_repair_gave() -> None:
    client, rows = ran({"a": Fate(0.5, 500, accuracy=0.985, repaired_accuracy=0.96)})
    assert rows["a"]["state"] == "complete" and file_of(client, rows["a"]) == ("a", "full")
    [of_short, *of_full] = client.search_state.trainings
    assert (of_short.before, of_short.after) == ("repaired", "short")
    assert {(t.before, t.after) for t in of_full} == {("repaired", "full"), ("short", "full")}
    assert of_short.drop == pytest.approx(0.03) and of_short.took_s == 10.0


def test_candidates_that_wait_when_time_is_up_are_completed() -> None:
    """New candidates gain more per second than training, so nothing is trained."""
    fates = {f"n{i:03d}": Fate(0.9 * 0.8**i, int(900 * 0.8**i) + 1, repaired_accuracy=0.985)
             for i in range(40)}
    client, rows = ran(fates, budget={"candidates": 40, "wall_minutes": 0.4})
    assert trained(client) == set()
    counted = [row for row in rows.values() if row["state"] == "complete"]
    assert counted and all(row["reason"] is None for row in counted)
    assert not [row for row in rows.values() if row["state"] == "running"]


def test_the_file_of_a_training_that_the_end_interrupts_is_not_lost() -> None:
    fates = {"a": Fate(0.5, 500, accuracy=0.99, repaired_accuracy=0.98)}
    client, rows = ran(fates, budget={"candidates": 1, "wall_minutes": 0.08})
    assert trained(client) == {"a"}
    assert rows["a"]["state"] == "complete" and file_of(client, rows["a"])[0] == "a"


@pytest.mark.parametrize("dies_on", ["compress", "measure", "train", "together", "evaluate"])
def test_a_killed_search_continues_at_every_stage(dies_on: str) -> None:
    fates = {name: Fate(0.9 - 0.1 * i, 900 - 100 * i, 0.989 - 0.002 * i,
                        repaired_accuracy=0.98 - 0.002 * i)
             for i, name in enumerate("abcd")}
    spec = campaign(search={}, budget={"candidates": 4, "wall_minutes": 60})
    client = FakeCoordinator(spec.as_dict(), dict(fates))
    submit, seen = client.submit_job, {"baseline": False}

    def dying(kind: str, pool: str, payload: Any, **more: Any) -> Any:
        if client.rows and client.dies_on is None and not seen["baseline"]:
            client.dies_on, seen["baseline"] = dies_on, True
        return submit(kind, pool, payload, **more)

    client.submit_job = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        search_of(client, Scripted(*fates), spec).run()
    client.dies_on = None
    again = Scripted(*fates)
    search_of(client, again, spec).run()
    assert client.state == "done" and {row["state"] for row in client.rows} <= {
        "complete", "pruned"}
    assert len(client.rows) == 4 and by_name(client)["d"]["state"] == "complete"


def test_a_candidate_returns_to_its_repaired_figures() -> None:
    with pytest.raises(ValueError, match="not repaired"):
        Candidate(1, 1, None).return_to_repaired()  # type: ignore[arg-type]


def test_training_waits_until_the_gain_of_new_candidates_is_known() -> None:
    fates = {f"n{i:03d}": Fate(2.0, 2000, repaired_accuracy=0.985) for i in range(60)}
    fates["n000"] = Fate(0.5, 500, accuracy=0.989, repaired_accuracy=0.975)
    client, rows = ran(fates, budget={"candidates": 60, "wall_minutes": 60})
    order = [(j["kind"], j["payload"].get("fidelity")) for j in client.jobs]
    first = order.index(("train", "short"))
    asked = sum(kind == "compress" for kind, _ in order[:first])
    assert STARTUP_TRIALS // 2 <= RECENT // 2 <= asked < 60, "the others gain nothing"
    assert trained(client) == {"n000"} and file_of(client, rows["n000"]) == ("n000", "full")


def test_what_training_may_win_back_is_trained_at_the_end() -> None:
    """Half of a drop is expected to be won back: three points may become less than two."""
    fates = {"a": Fate(0.5, 500, accuracy=0.98, repaired_accuracy=0.962, wins=0.002),
             **{f"n{i:03d}": Fate(0.9 * 0.8**i, int(900 * 0.8**i) + 1, repaired_accuracy=0.985)
                for i in range(40)}}
    spec = campaign(search={}, budget={"candidates": 41, "wall_minutes": 0.5})
    client = FakeCoordinator(spec.as_dict(), dict(fates))
    search_of(client, Scripted(*fates), spec, extends=True).run()
    row = by_name(client)["a"]
    assert row["state"] == "complete" and row["reason"] == "breaks a constraint"
    assert file_of(client, row) == ("a", "repaired")
    extended = [p["recipe"][0]["strategy"] for p in client.of_kind("train")
                if p["fidelity"] == "extended"]
    assert extended, "the front, and what would be on it"


def test_a_network_too_slow_for_one_epoch_has_a_front_of_repaired_files() -> None:
    """Of 60 s one epoch would take 20: nothing is trained, and the notes say why."""
    fates = {"a": Fate(0.5, 500, 0.99, repaired_accuracy=0.98),
             "b": Fate(0.3, 300, 0.99, repaired_accuracy=0.975)}
    spec = campaign(search={}, budget={"candidates": 2, "wall_minutes": 1})
    for epoch_s, trains in ((20.0, False), (2.0, True)):
        client = FakeCoordinator(spec.as_dict(), dict(fates))
        search_of(client, Scripted(*fates), spec, task=replace(FACTS, epoch_s=epoch_s)).run()
        assert bool(trained(client)) == trains
        noted = [note for note in client.search_state.notes if "one epoch takes 20 s" in note]
        assert bool(noted) != trains
        if not trains:
            rows = by_name(client)
            assert {file_of(client, rows[name])[1] for name in fates} == {"repaired"}
            assert {row["state"] for row in rows.values()} == {"complete"}


def test_the_file_after_short_training_counts_where_more_gains_less_than_new_candidates() -> None:
    fates = {"a": Fate(0.2, 200, accuracy=0.99, short_accuracy=0.989, repaired_accuracy=0.968),
             **{f"n{i:03d}": Fate(0.9 * 0.95**i, int(900 * 0.95**i) + 1, repaired_accuracy=0.985)
                for i in range(40)}}
    client, rows = ran(fates, budget={"candidates": 41, "wall_minutes": 60})
    trainings = [p["fidelity"] for p in client.of_kind("train")
                 if p["recipe"] and p["recipe"][0]["strategy"] == "a"]
    assert trainings == ["short"]
    assert rows["a"]["state"] == "complete" and file_of(client, rows["a"]) == ("a", "short")
    assert rows["a"]["values"]["accuracy"] == pytest.approx(0.989)


def test_short_training_that_is_as_long_as_full_training_is_left_out() -> None:
    fates = {"a": Fate(0.5, 500, accuracy=0.985, repaired_accuracy=0.965)}
    spec = campaign(search={}, budget={"candidates": 1, "wall_minutes": 1})
    client = FakeCoordinator(spec.as_dict(), dict(fates))
    search_of(client, Scripted(*fates), spec, task=replace(FACTS, epoch_s=5.0),
              states_epochs=False).run()
    trainings = [(p["fidelity"], p["epochs"]) for p in client.of_kind("train") if p["recipe"]]
    assert [fidelity for fidelity, _ in trainings] == ["full", "extended"]
    assert trainings[0][1]["short"] == trainings[0][1]["full"] == 1
    assert file_of(client, by_name(client)["a"])[0] == "a"
