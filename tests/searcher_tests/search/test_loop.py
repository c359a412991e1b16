"""The search loop on scripted candidates: every asked trial ends with exactly one ``tell``."""

import warnings
from typing import Any

import pytest

from searcher.errors import BuildError
from searcher.search.candidate import SLACK
from searcher.search.loop import SAVE_EVERY_S
from searcher.search.measurement_batches import ATTEMPTS, MOST_MEASUREMENTS
from searcher.search.promotion import POOL
from searcher.search.sampling import Sampling
from searcher.search.space import Space
from strategies.layers import layers_of
from tests.searcher_tests.fake_coordinator import (
    COST_S,
    LEVEL_S,
    FakeCoordinator,
    Fate,
    Killed,
    Scripted,
    campaign,
    search_of,
)
from tests.tasks_for_tests import network


def ran(names: tuple[str, ...], script: dict[str, Fate] | None = None,
        **changes: Any) -> tuple[FakeCoordinator, Scripted, dict[str, dict[str, Any]]]:
    """Coordinator, sampling and trials by the name of their recipe, after the campaign."""
    spec = campaign(**changes)
    client, sampling = FakeCoordinator(spec.as_dict(), dict(script or {})), Scripted(*names)
    search_of(client, sampling, spec).run()
    return client, sampling, {row["steps"][0]["strategy"]: row for row in client.rows}


def test_notes_about_the_device_are_saved() -> None:
    """The status shows it; see the tests of ``searcher.results.status``."""
    spec = campaign()
    client = FakeCoordinator(spec.as_dict(), {})
    search_of(client, Scripted("a"), spec, notes=["int8 is left out: it has none"]).run()
    assert client.search_state.notes == ("int8 is left out: it has none",)


def names_of(client: FakeCoordinator, kind: str) -> list[str]:
    return [p["recipe"][0]["strategy"] for p in client.of_kind(kind) if p["recipe"]]


def test_a_good_candidate_passes_every_stage() -> None:
    client, sampling, rows = ran(("a",))
    row = rows["a"]
    assert (row["state"], row["reason"]) == ("complete", None)
    assert row["values"] == pytest.approx({
        "file_bytes": 500, "macs": 1000, "latency_ratio": 0.5, "latency_s": 0.5 * LEVEL_S,
        "accuracy": 0.98, "quality_drop": 0.01})
    assert row["intervals"]["latency_s"] == pytest.approx([0.495 * LEVEL_S, 0.505 * LEVEL_S])
    low, high = row["intervals"]["quality_drop"]
    assert low < 0.01 < high
    assert client.files[row["sha256"]] == ("a", "full") and row["measurement"] == 7
    assert row["constraints"] == {"quality_drop": pytest.approx(-0.01)}
    kinds = [(j["kind"], j["payload"].get("fidelity")) for j in client.jobs if j["kind"] != "scan"]
    assert kinds == [("train", "full"), ("measure", None), ("compress", None), ("measure", None),
                     ("train", "short"), ("train", "full"), ("measure", None),
                     ("evaluate", None), ("evaluate", None)]
    assert client.state == "done"


def test_the_baseline_is_measured_longer_and_kept() -> None:
    client, _, _ = ran(("a",))
    first = client.of_kind("measure")[0]
    assert first["plan"]["min_blocks"] >= 40 and first["quiet_level_s"] is None
    assert first["candidates"] == [first["reference"]]
    assert all(p["quiet_level_s"] == LEVEL_S for p in client.of_kind("measure")[1:])
    baseline = client.search_state.baseline
    assert baseline.values["latency_s"] == baseline.quiet_level_s == LEVEL_S
    assert baseline.values["accuracy"] == 0.99


def test_every_asked_trial_gets_exactly_one_tell() -> None:
    script = {
        "fails": Fate(fails=("any", "unsupported_graph")),
        "nan": Fate(fails=("short", "nan_loss")), "late": Fate(fails=("full", "disk_full")),
        "crash": Fate(measured="crashed: signal 11"), "busy": Fate(busy=9),
        "bad": Fate(accuracy=0.5), "slow": Fate(ratio=2.0, file_bytes=2000),
        "fast": Fate(ratio=0.1, file_bytes=90), "gone": Fate(measured="job failed")}
    client, sampling, rows = ran(("a", *script, "b"), script)
    assert sorted(trial for trial, _ in client.ended_trials) == [row["id"] for row in client.rows]
    assert sorted(sampling.ended_trials) == list(range(sampling.asked)), "each has one tell"
    assert {row["state"] for row in client.rows} == {"complete", "pruned", "failed"}
    for trial, state in client.ended_trials:
        assert sampling.ended_trials[trial - 1][0] == state


@pytest.mark.parametrize(("fidelity", "reason"), [
    ("any", "unsupported_graph"), ("short", "nan_loss"), ("full", "disk_full")])
def test_a_failed_build_is_a_failed_trial_with_its_reason(fidelity: str, reason: str) -> None:
    client, sampling, rows = ran(("x", "a"), {"x": Fate(fails=(fidelity, reason), ratio=0.4)})
    assert (rows["x"]["state"], rows["x"]["reason"]) == ("failed", reason)
    assert rows["x"]["message"] == "x went wrong"
    assert rows["a"]["state"] == "complete", "the campaign goes on without it"
    assert sampling.ended_trials[0][0] == "failed"


def test_a_training_without_an_evaluation_is_a_failed_trial() -> None:
    class Careless(FakeCoordinator):
        def _train(self, payload: dict[str, Any]) -> dict[str, Any]:
            found = super()._train(payload)
            if payload["recipe"]:
                found["result"]["evaluation"] = None
            return found

    spec = campaign(budget={"candidates": 1, "wall_minutes": 60})
    client = Careless(spec.as_dict())
    search_of(client, Scripted("a"), spec).run()
    assert [(row["state"], row["reason"]) for row in client.rows] == [("failed", "not evaluated")]
    assert client.state == "done"


@pytest.mark.parametrize(("fate", "reason", "message"), [
    (Fate(measured="crashed: signal 11"), "crashed: signal 11", "crashed: signal 11"),
    (Fate(measured="timeout"), "timeout", "timeout"),
    (Fate(measured="job failed"), "quarantined", "the device is gone"),
])
def test_a_candidate_that_cannot_be_measured_failed(
        fate: Fate, reason: str, message: str) -> None:
    client, _, rows = ran(("x",), {"x": fate})
    assert (rows["x"]["state"], rows["x"]["reason"]) == ("failed", reason)
    assert rows["x"]["message"] == f"on fake: {message}"
    assert names_of(client, "train") == []


def tried(client: FakeCoordinator, fidelity: str) -> list[int]:
    return [p["attempt"] for p in client.of_kind("measure")
            if client.files[p["candidates"][0]["sha256"]] == ("x", fidelity)]


@pytest.mark.parametrize("busy", (0, 1, ATTEMPTS - 1, ATTEMPTS))
def test_without_any_ratio_a_busy_measurement_is_tried_again(busy: int) -> None:
    client, _, rows = ran(("x",), {"x": Fate(busy=busy)})
    assert tried(client, "untrained") == list(range(1, min(busy + 1, ATTEMPTS) + 1))
    wanted = ("complete", None) if busy < ATTEMPTS else ("failed", "busy")
    assert (rows["x"]["state"], rows["x"]["reason"]) == wanted


def test_wrong_outputs_are_not_measured_again() -> None:
    client, _, rows = ran(("x",), {"x": Fate(measured="parity: outputs differ")})
    assert tried(client, "untrained") == [1]
    assert (rows["x"]["state"], rows["x"]["reason"]) == ("failed", "parity: outputs differ")


def test_a_wide_interval_of_a_trained_candidate_is_measured_again() -> None:
    client, _, rows = ran(("x",), {"x": Fate(ratio=0.5, vague=2)})
    assert tried(client, "untrained") == [1] and tried(client, "full") == [1, 2, 3]
    row = rows["x"]
    assert row["values"]["latency_ratio"] == 0.5 and row["measurement"] == 7


def test_the_narrowest_interval_counts() -> None:
    client, _, rows = ran(("x",), {"x": Fate(ratio=0.5, vague=9)})
    assert tried(client, "full") == list(range(1, MOST_MEASUREMENTS + 1))
    low, high = rows["x"]["intervals"]["latency_s"]
    assert (rows["x"]["state"], rows["x"]["measurement"]) == ("complete", 5)
    assert (high - low) / LEVEL_S == pytest.approx(0.5 * (0.3 + (9 - MOST_MEASUREMENTS) / 10))


def test_a_rough_ratio_only_decides_about_training() -> None:
    client, _, rows = ran(("x",), {"x": Fate(ratio=0.5, busy=3, rough_ratio=0.62)})
    assert tried(client, "untrained") == [1], "no second look at what is only to be trained"
    assert tried(client, "full") == [1, 2, 3], "a front gets a measurement in quiet blocks"
    assert rows["x"]["state"] == "complete" and rows["x"]["reason"] is None
    assert rows["x"]["values"]["latency_ratio"] == 0.5 and "latency_s" in rows["x"]["intervals"]


def test_trained_and_untrained_candidates_never_share_a_window() -> None:
    names = tuple("abcdefghijkl")
    client, _, _ = ran(names, budget={"candidates": len(names)})
    windows = [(p["plan"]["name"], {client.files[f["sha256"]][1] for f in p["candidates"]})
               for p in client.of_kind("measure")[1:]]
    assert {(plan.endswith("-screening"), *sorted(kinds)) for plan, kinds in windows} == {
        (True, "untrained"), (False, "full")}
    assert max(len(p["candidates"]) for p in client.of_kind("measure")) > 1


def test_slack_applies_to_a_rough_ratio() -> None:
    bound = {"latency_s": 0.5 * LEVEL_S}
    near = Fate(ratio=0.4, busy=1, rough_ratio=0.6)
    far = Fate(ratio=0.4, busy=1, rough_ratio=0.7)
    assert ran(("x",), {"x": near}, constraints=bound)[2]["x"]["state"] == "complete"
    row = ran(("x",), {"x": far}, constraints=bound)[2]["x"]
    assert row["state"] == "pruned" and "latency_s" not in row["intervals"]


def test_a_violated_constraint_prevents_training() -> None:
    client, sampling, rows = ran(
        ("big", "slow", "a"), {"big": Fate(file_bytes=900), "slow": Fate(ratio=0.9)},
        constraints={"file_bytes": 600, "latency_s": 0.6 * LEVEL_S})
    assert set(names_of(client, "train")) == {"a"}
    assert rows["big"]["state"] == rows["slow"]["state"] == "pruned"
    assert "file_bytes is 900, allowed 600" in rows["big"]["reason"]
    assert rows["big"]["constraints"] == {"file_bytes": 0.5}
    assert sampling.ended_trials[0] == ("pruned", {"file_bytes": 0.5}), "the sampler learns from it"


def test_candidates_that_cannot_reach_the_front_are_not_trained() -> None:
    fates = {"a": Fate(0.5, 500, 0.99), "worse": Fate(0.6, 600, 0.99)}
    client, _, _ = ran(("a",), fates, budget={"candidates": 1})
    sampling = Scripted("a", "worse")
    search_of(client, sampling, campaign(budget={"candidates": 2})).run()
    row = client.rows[1]
    assert set(names_of(client, "train")) == {"a"} and row["state"] == "pruned"
    assert "cannot reach the front" in row["reason"]
    assert sampling.ended_trials[1][1] == {"reach": pytest.approx(0.6 * (1 - SLACK) / 0.5 - 1)}


def test_short_training_decides_about_full_training() -> None:
    client, _, rows = ran(
        ("lost", "a"), {"lost": Fate(ratio=0.4, accuracy=0.99, short_accuracy=0.5)})
    assert rows["lost"]["state"] == "pruned" and "short training lost" in rows["lost"]["reason"]
    fidelities = [p["fidelity"] for p in client.of_kind("train")
                  if p["recipe"] and p["recipe"][0]["strategy"] == "lost"]
    assert fidelities == ["short"]


def test_a_broken_constraint_after_training_is_complete_and_off_the_front() -> None:
    client, sampling, rows = ran(("x", "a"), {"x": Fate(0.4, 400, 0.96, 0.98)})
    row = rows["x"]
    assert row["state"] == "complete" and "breaks a constraint" in row["reason"]
    assert row["constraints"]["quality_drop"] == pytest.approx(0.01)
    measured = {f["sha256"] for p in client.of_kind("measure") for f in p["candidates"]}
    assert row["sha256"] not in measured, "candidates that cannot enter are not measured"
    tested = {p["sha256"] for p in client.of_kind("evaluate")}
    assert tested == {rows["a"]["sha256"], client.search_state.baseline.sha256}


def test_duplicates_are_never_built_twice() -> None:
    client, sampling, rows = ran(("a", "a", "b", "a", "b", "c"))
    assert sorted(rows) == ["a", "b", "c"] and len(client.rows) == 3
    assert sorted(names_of(client, "compress")) == ["a", "b", "c"]
    assert {sampling.ended_trials[n][0] for n in (1, 3, 4)} == {"failed"}


def test_the_budget_of_candidates() -> None:
    client, sampling, _ = ran(tuple("abcdefgh"), budget={"candidates": 3, "wall_minutes": 60})
    assert len(client.rows) == 3 and sampling.asked == 3


def test_the_budget_of_time() -> None:
    """A build takes 1 s or 10 s of simulated time: 30 s suffice for a few of twenty candidates."""
    fates = {c: Fate(ratio=0.9 - 0.03 * i, file_bytes=900 - 10 * i)
             for i, c in enumerate("abcdefghijklmnopqrst")}
    client, _, rows = ran(tuple(fates), fates, budget={"candidates": 20, "wall_minutes": 0.5})
    cut = [row for row in rows.values() if "budget ended" in (row["reason"] or "")]
    assert cut and all(row["state"] == "pruned" for row in cut)
    assert all(row["state"] != "running" for row in client.rows) and client.state == "done"
    assert 30 <= client.search_state.searched_s < 80


def test_a_budget_may_hold_the_baseline_too() -> None:
    fates = {c: Fate(ratio=0.9 - 0.03 * i, file_bytes=900 - 10 * i)
             for i, c in enumerate("abcdefghijklmnopqrst")}
    client, _, _ = ran(tuple(fates), fates, budget={"candidates": 20, "total_minutes": 0.5})
    saved = client.search_state
    assert saved.baseline_s >= COST_S["train"] and client.state == "done"
    assert 30 - saved.baseline_s <= saved.searched_s < 80 - saved.baseline_s


def test_a_full_pool_is_pruned_at_each_training() -> None:
    """While sampling continues, candidates with the lowest gain make room for later ones."""
    names = [f"n{i:03d}" for i in range(3 * POOL)]
    fates = {name: Fate(ratio=0.9 - 0.01 * i, file_bytes=900 - 10 * i)
             for i, name in enumerate(names)}
    client, sampling, rows = ran(
        tuple(names), fates, budget={"candidates": len(names), "wall_minutes": 4})
    evicted = [name for name, row in rows.items() if "promised more" in (row["reason"] or "")]
    assert evicted and not set(evicted) & set(names_of(client, "train"))
    assert all(rows[name]["state"] == "pruned" for name in evicted)
    assert sampling.asked > POOL + 8, "the first ones do not keep the others out"


def test_a_failed_measurement_does_not_dominate() -> None:
    """``b`` dominates ``a``; both wait for the device, and the measurement of ``b`` fails."""
    client, _, rows = ran(("a", "b"), {
        "a": Fate(0.5, 500, 0.985), "b": Fate(0.2, 200, 0.985, breaks_trained=True)})
    assert rows["b"]["state"] == "failed"
    assert (rows["a"]["state"], rows["a"]["reason"]) == ("complete", None)


def test_only_the_front_uses_the_test_split() -> None:
    client, _, rows = ran(("a", "b"), {"a": Fate(0.5, 500, 0.985), "b": Fate(0.2, 200, 0.985)})
    tested = {p["sha256"] for p in client.of_kind("evaluate")}
    baseline = client.search_state.baseline.sha256
    assert tested == {baseline, rows["b"]["sha256"]}, "b is better than a"


@pytest.mark.parametrize(("fate", "said"), [
    (Fate(fails=("full", "nan_loss")), "The baseline could not be built: baseline went wrong"),
    (Fate(busy=99), "The baseline could not be measured: busy"),
    (Fate(measured="unloadable: x"), "unloadable: x"),
])
def test_without_a_baseline_there_is_no_campaign(fate: Fate, said: str) -> None:
    with pytest.raises(BuildError) as caught:
        ran(("a",), {"baseline": fate})
    assert said in str(caught.value)


# -- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies_at", [0, 1, 3, 5])
def test_resume_keeps_finished_trials_and_continues_the_others(dies_at: int) -> None:
    spec = campaign()
    fates = {c: Fate(ratio=0.8 - 0.1 * i, file_bytes=800 - 100 * i, accuracy=0.985)
             for i, c in enumerate("abcdef")}
    client = FakeCoordinator(spec.as_dict(), fates, dies_at=dies_at)
    with pytest.raises(Killed):
        search_of(client, Scripted(*"abcdef"), spec).run()
    before = [dict(row) for row in client.rows if row["state"] != "running"]
    running = [row["id"] for row in client.rows if row["state"] == "running"]
    done = {j["key"] for j in client.jobs if j["state"] == "done"}
    assert len(before) == dies_at and running
    client.dies_at = None
    sampling = Scripted(*"abcdef")
    search_of(client, sampling, spec).run()
    assert [client.rows[row["id"] - 1] for row in before] == before, "finished trials are unchanged"
    assert all(client.rows[trial - 1]["state"] != "running" for trial in running)
    assert sorted(sampling.ended_trials) == list(range(sampling.asked))
    assert [j["key"] for j in client.jobs if j["key"] in done] == sorted(
        done, key=[j["key"] for j in client.jobs].index), "nothing is built twice"
    assert client.state == "done"


def test_trained_candidates_survive_a_killed_search() -> None:
    """The candidates are measured with the front; no time is left to train them again."""
    fates = {c: Fate(ratio=0.9 - 0.03 * i, file_bytes=900 - 10 * i)
             for i, c in enumerate("abcdefghijklmnopqrst")}
    changes = {"budget": {"candidates": 20, "wall_minutes": 0.5}}
    spec, (undisturbed, _, _) = campaign(**changes), ran(tuple(fates), fates, **changes)
    client = FakeCoordinator(spec.as_dict(), fates, dies_on="together")
    with pytest.raises(Killed):
        search_of(client, Scripted(*fates), spec).run()
    trained = [row["id"] for row in client.rows if row["state"] == "running"]
    trainings = len(client.of_kind("train"))
    client.dies_on = None
    search_of(client, Scripted(*fates), spec).run()
    assert trained and [client.rows[i - 1]["state"] for i in trained] == ["complete"] * len(trained)
    assert client.rows == undisturbed.rows and len(client.of_kind("train")) == trainings


def test_a_finished_campaign_resumes_to_its_end_at_once() -> None:
    client, _, _ = ran(("a", "b"), budget={"candidates": 2, "wall_minutes": 60})
    jobs = len(client.jobs)
    ended = list(client.ended_trials)
    sampling = Scripted("a", "b")
    search_of(client, sampling, campaign(budget={"candidates": 2, "wall_minutes": 60})).run()
    assert len(client.jobs) == jobs and client.ended_trials == ended and client.state == "done"


def test_the_time_of_the_baseline_is_no_search_time() -> None:
    spec = campaign()
    client = FakeCoordinator(spec.as_dict(), dies_at=0)
    with pytest.raises(Killed):
        search_of(client, Scripted("a"), spec).run()
    assert client.saved[0] == 0.0


def test_time_spent_is_saved_while_nothing_ends() -> None:
    """A search that is killed between two trials loses little of its search time."""
    fates = {c: Fate(busy=8) for c in "abc"}
    client, _, _ = ran(tuple(fates), fates, budget={"candidates": 3, "wall_minutes": 60})
    gaps = [after - before for before, after in zip(client.saved, client.saved[1:], strict=False)]
    assert max(gaps) <= SAVE_EVERY_S + max(COST_S.values())


# -- with the real sampler -----------------------------------------------------------------------


def test_a_resumed_optuna_study_continues() -> None:
    spec = campaign(budget={"candidates": 30, "wall_minutes": 60})
    client = FakeCoordinator(spec.as_dict(), dies_at=20)
    with warnings.catch_warnings():
        space = Space.of(spec, layers_of(network()), frozenset({"float32", "int8"}))
        with pytest.raises(Killed):
            search_of(client, Sampling(spec, space), spec).run()
        client.dies_at = None
        sampling = Sampling(spec, space, len(client.rows))
        search_of(client, sampling, spec).run()
    assert len(client.rows) == 30 == len({row["recipe"] for row in client.rows})
    assert all(row["state"] != "running" for row in client.rows)
    assert not sampling._asked, "every asked trial has a tell"
    assert {t.state.name for t in sampling._study.trials} <= {"COMPLETE", "PRUNED", "FAIL"}
