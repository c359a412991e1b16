"""Queries by table; none of them scans a table that grows."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searcher.ledger.rows import text
from searcher.ledger.store import Store
from searcher.ledger.tables import (
    builds,
    campaigns,
    credentials,
    evaluations,
    jobs,
    measurements,
    spans,
    trials,
)
from searcher.ledger.tables.evaluations import Judged
from tests.searcher_tests.dispatch.laboratory import SPEC, recipe
from tests.stored_rows import builds_of_recipe


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "ledger.db")
    campaigns.create(opened.db, "digits", SPEC, 1.0)
    yield opened
    opened.close()


def new_trial(store: Store, number: int, device: str = "tx2", **options: int) -> int:
    builds.put_recipe(store.db, recipe(number).hash, recipe(number).as_list())
    return trials.create(
        store.db, "digits", device, recipe(number).hash, options,
        {"values": {"a": number}, "distributions": {}}, 2.0)


def test_trials_are_numbered_by_device(store: Store) -> None:
    ids = [new_trial(store, 0), new_trial(store, 1), new_trial(store, 0, "nano")]
    rows = [trials.get(store.db, trial) for trial in ids]
    assert [(row.device, row.number) for row in rows if row] == [
        ("tx2", 0), ("tx2", 1), ("nano", 0)]
    found = trials.find(store.db, "digits", "tx2", recipe(1).hash, {})
    assert found is not None and found.id == ids[1] and found.state == "running"
    assert trials.find(store.db, "digits", "tx2", recipe(1).hash, {"threads": 2}) is None


def test_telling_changes_only_what_is_told(store: Store) -> None:
    trial = new_trial(store, 0)
    trials.tell(store.db, trial, "complete", {
        "values": {"accuracy": 0.99}, "intervals": {"accuracy": [0.98, 1.0]},
        "constraints": {}, "sha256": "a" * 64, "evaluations": [1, 2]}, 5.0)
    trials.tell(store.db, trial, "complete", {"values": {"accuracy": 0.98}}, 9.0)
    row = trials.get(store.db, trial)
    assert row is not None
    assert (row.state, row.values, row.finished_s) == ("complete", {"accuracy": 0.98}, 5.0)
    assert (row.intervals, row.evaluations) == ({"accuracy": [0.98, 1.0]}, [1, 2])
    assert row.measurement is None


def test_trial_history_pages_and_filters(store: Store) -> None:
    ids = [new_trial(store, number) for number in range(5)]
    trials.tell(store.db, ids[2], "failed", {"reason": "nan_loss"}, 3.0)
    assert [t.id for t in trials.history(store.db, "digits", limit=2)] == ids[:2]
    assert [t.id for t in trials.history(store.db, "digits", after=ids[1])] == ids[2:]
    assert [t.id for t in trials.history(store.db, "digits", states=("failed",))] == [ids[2]]
    assert trials.history(store.db, "digits", device="nano") == []
    assert trials.counts(store.db, "digits") == {
        "running": 4, "complete": 0, "pruned": 0, "failed": 1}


def test_trials_as_json_are_those_of_the_history(store: Store) -> None:
    ids = [new_trial(store, number) for number in range(3)]
    trials.tell(store.db, ids[1], "complete", {
        "values": {"accuracy": 0.99}, "intervals": {"accuracy": [0.98, 1.0]}, "message": 'a "b"\n',
        "constraints": {}, "sha256": "a" * 64, "evaluations": [1, 2]}, 5.0)
    for chosen in ({}, {"after": ids[0]}, {"limit": 1}, {"states": ("complete",)},
                   {"device": "nano"}):
        found = [json.loads(one) for one in trials.as_json(store.db, "digits", **chosen)]
        assert found == [
            {**asdict(row), "steps": builds.recipe(store.db, row.recipe), "measured": False}
            for row in trials.history(store.db, "digits", **chosen)]


def test_live_campaigns_by_priority_then_age(store: Store) -> None:
    for name, created_s, priority in (("young", 9.0, 0), ("urgent", 5.0, 2), ("paused", 2.0, 9)):
        campaigns.create(store.db, name, {**SPEC, "name": name}, created_s, priority)
    campaigns.set_state(store.db, "paused", "paused", None, 10.0)
    campaigns.set_state(store.db, "young", "running", None, 10.0)
    assert campaigns.live(store.db) == ["urgent", "digits", "young"]
    campaigns.set_priority(store.db, "young", 3)
    assert campaigns.live(store.db) == ["young", "urgent", "digits"]
    campaigns.without_search(store.db, "digits")
    assert [c.state for c in campaigns.history(store.db)] == [
        "running", "queued", "paused", "queued"]
    campaigns.without_search(store.db)
    young = campaigns.get(store.db, "young")
    assert young is not None and young.state == "queued"


def test_campaign_times(store: Store) -> None:
    campaigns.set_state(store.db, "digits", "running", None, 2.0)
    campaigns.set_state(store.db, "digits", "paused", "lunch", 3.0)
    campaigns.set_state(store.db, "digits", "running", None, 4.0)
    campaigns.set_state(store.db, "digits", "done", None, 5.0)
    row = campaigns.get(store.db, "digits")
    assert row is not None
    assert (row.started_s, row.ended_s) == (2.0, 5.0)
    campaigns.set_state(store.db, "digits", "running", None, 6.0)
    row = campaigns.get(store.db, "digits")
    assert row is not None and (row.started_s, row.ended_s) == (2.0, None)


def test_an_artifact_learns_its_build_later(store: Store) -> None:
    builds.put_artifact(store.db, "a" * 64, 5, 1.0)
    builds.put_recipe(store.db, recipe().hash, recipe().as_list())
    job = jobs.create(store.db, "key", "compress", "builder", None, {}, 0, 1.0)
    builds.put(store.db, "b", "task", recipe().hash, 0, "full", "a" * 64, 5, "g", {}, job, 2.0)
    builds.put_artifact(store.db, "a" * 64, 5, 2.0, "b", {"opset": 13}, "int8", [0.5])
    builds.put_artifact(store.db, "a" * 64, 5, 3.0)
    row = builds.artifact(store.db, "a" * 64)
    assert row is not None
    assert (row.build_key, row.number_format, row.target) == ("b", "int8", {"opset": 13})
    assert builds.expectation(store.db, "a" * 64)[0] == [0.5]
    assert [b.key for b in builds_of_recipe(store.db, recipe().hash)] == ["b"]


def test_samples_of_slow_and_fast_calls(store: Store) -> None:
    for calls in ([], [1, 2, 2**32 - 1], [2**33, 5]):
        packed = measurements._packed(calls)
        assert packed[:1] == (b"Q" if max(calls, default=0) >= 2**32 else b"I")


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_equal_documents_have_equal_texts(document: dict[str, object]) -> None:
    turned = dict(reversed(document.items()))
    assert text(document) == text(turned) and json.loads(text(document)) == document


GROWING = {
    "jobs", "trials", "spans", "measurements", "samples", "evaluations", "builds", "artifacts",
    "recipes", "job_requests", "agents", "enrolments",
}


def test_no_query_scans_a_growing_table(store: Store) -> None:
    db, sha256 = store.db, "a" * 64
    job = jobs.create(db, "key", "compress", "builder", "digits", {}, 0, 1.0)
    seen: list[tuple[str, object]] = []
    with db.tracer(lambda sql, parameters: seen.append((sql, parameters))):
        jobs.by_key(db, "key")
        jobs.done(db, "scan", [job])
        jobs.want(db, job, "digits", 0)
        jobs.next_queued(db, "builder")
        jobs.queued(db, "builder")
        jobs.leased(db, "builder")
        jobs.held_by(db, "builder", "x")
        jobs.lease_over(db, 1.0)
        jobs.lease_over(db, 1.0, "builder")
        jobs.next_end_s(db)
        jobs.finished(db, "digits", 0)
        jobs.campaigns_of(db, job)
        jobs.unwanted(db, "digits")
        jobs.only_wanted_by(db, "digits", ["compress"])
        jobs.counts(db, "digits")
        jobs.waited_too_long(db, 1.0)
        jobs.list_waiting(db, "builder")
        jobs.unfinished(db)
        jobs.ended_after(db, 1)
        builds.of_file(db, sha256)
        builds.artifact(db, sha256)
        evaluations.get(db, Judged(sha256, "t", "test", "host", "accuracy"))
        evaluations.of_file(db, sha256)
        evaluations.labels(db, 1)
        measurements.of_file(db, sha256)
        measurements.of_file(db, sha256, "tx2")
        measurements.samples(db, 1)
        credentials.agent_by_secret(db, "h")
        credentials.agents_of_device(db, "tx2")
        credentials.enrolment(db, "h")
        credentials.token_by_secret(db, "h")
        trials.find(db, "digits", "tx2", "r", {})
        trials.history(db, "digits")
        trials.history(db, "digits", "tx2", ("running",))
        trials.as_json(db, "digits")
        trials.as_json(db, "digits", "tx2", ("running",))
        trials.counts(db, "digits")
        campaigns.progress(db, "digits")
        spans.end_of_job(db, job, 1.0)
        spans.end_of_pool(db, "builder", 1.0)
        jobs.extend_pool(db, "builder", 1.0)
        jobs.leased(db)
        campaigns.history(db)
        spans.history(db, "digits")
        spans.still_open(db)
    for sql, parameters in seen:
        for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}", parameters or ()):
            words = row[3].split()
            scans = words[0] == "SCAN" and "USING" not in words
            assert not (scans and words[1] in GROWING | {"t", "r"}), (sql, row[3])


def test_ended_jobs_come_in_answers_of_bounded_size(store: Store) -> None:
    db = store.db
    ids = [jobs.create(db, f"key {i}", "train", "builder", "digits", {}, 0, 1.0) for i in range(5)]
    for job in ids:
        db.execute("INSERT INTO job_requests VALUES ('digits', ?)", [job])
        jobs.finish(db, job, "done", 2.0, result={"scores": "x" * 1000})

    def pages(most_bytes: int, limit: int = 100) -> list[list[int]]:
        found: list[list[int]] = []
        after = 0
        while rows := jobs.finished(db, "digits", after, limit, most_bytes):
            found.append([row.id for row in rows])
            after = rows[-1].finished_seq or 0
        return found

    assert pages(10**6) == [ids] and pages(10**6, 2) == [ids[:2], ids[2:4], ids[4:]]
    assert pages(1) == [[job] for job in ids], "at least one, however large"
    assert pages(1500) == [ids[:2], ids[2:4], ids[4:]]
