"""The audit finds each kind of violation, and none in a correct run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.journal import Exchange
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.tables import trials
from tests.benchmarks_tests.recorded_run import RecordedRun, record_run
from tests.searcher_tests.dispatch.laboratory import SPEC, envelope, recipe

KEPT = "every acknowledged result is in the ledger"
STORED = "its measurements, build or evaluation are stored exactly once"
JOBS = "every acknowledged job is in the ledger and has ended"
FENCES = "fences increase, per job and overall"
STALE = "no stale fence is accepted"
LEASES = "no lease is lost"
TRIALS = "every acknowledged trial is in the ledger with its last update"
CAMPAIGNS = "every acknowledged campaign is in the ledger; done stays done"
FILES = "every file has its digest"
SOUND = "the ledger passes SQLite's integrity and foreign key checks"

Recorded = tuple[RecordedRun, AgentRow, JobRow, Exchange]


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    found = record_run(tmp_path)
    yield found
    found[0].lab.store.close()


def change(run: RecordedRun, sql: str) -> None:
    """Changes the ledger as a defect would."""
    run.lab.store.db.conn.execute("PRAGMA foreign_keys = OFF")
    run.lab.store.db.conn.execute(sql)


def test_a_correct_run_has_no_violations(recorded: Recorded) -> None:
    run = recorded[0]
    assert run.broken() == set()
    checked = {rule for rule, finding in run.findings().items() if finding.checked}
    assert checked >= {KEPT, STORED, JOBS, FENCES, STALE, LEASES, FILES, SOUND}


@pytest.mark.parametrize(("sql", "rules"), [
    ("UPDATE jobs SET result_sha256 = NULL WHERE id = 1", {KEPT}),
    ("UPDATE jobs SET state = 'leased' WHERE id = 1", {KEPT, JOBS, LEASES}),
    ("UPDATE jobs SET fence = 1 WHERE id = 1", {KEPT, LEASES}),
    ("UPDATE jobs SET key = 'another' WHERE id = 2", {JOBS}),
    ("DELETE FROM measurements WHERE job = 1", {STORED, SOUND}),
    ("UPDATE spans SET end_s = NULL WHERE job = 1", {LEASES}),
    ("DELETE FROM spans WHERE id = 1", {LEASES}),
])
def test_an_acknowledged_write_is_missing(recorded: Recorded, sql: str, rules: set[str]) -> None:
    change(recorded[0], sql)
    assert recorded[0].broken() == rules


def test_a_measurement_is_stored_twice(recorded: Recorded) -> None:
    columns = ", ".join(c.name for c in recorded[0].lab.store.db["measurements"].columns
                        if c.name != "id")
    change(recorded[0], f"INSERT INTO measurements ({columns}) SELECT {columns} FROM measurements")
    assert recorded[0].broken() == {STORED}


def test_the_stored_result_differs_from_the_acknowledged_one(recorded: Recorded) -> None:
    run, _, _, accepted = recorded
    other = run.result(recorded[2], envelope({"reason": "x", "message": "y"}, "failed"))[0]
    run.change(accepted, sha256=other)
    assert run.broken() == {KEPT}


def test_a_damaged_file(recorded: Recorded) -> None:
    next((recorded[0].lab.folder / "artifacts").iterdir()).write_bytes(b"damaged")
    assert recorded[0].broken() == {FILES}


def test_one_fence_for_two_leases(recorded: Recorded) -> None:
    """Happens when a lease is acknowledged before the commit, and lost."""
    run = recorded[0]
    first = run.exchanges[1]
    run.journal("POST", "/v1/lease", {"job": 2, "attempt": 2, "fence": first.answer["fence"]})
    assert FENCES in run.broken()


def test_a_lease_is_missing_in_the_ledger(recorded: Recorded) -> None:
    run = recorded[0]
    run.journal("POST", "/v1/lease", {"job": 1, "attempt": 3, "fence": 99})
    assert run.broken() == {LEASES}


def test_a_result_under_a_stale_fence(recorded: Recorded) -> None:
    """The result of the first lease is accepted after the second lease was granted."""
    run, _, job, accepted = recorded
    run.journal("PUT", f"/v1/results/{job.id}/1", {"accepted": True}, query={"fence": "1"},
                  sha256=accepted.sha256)
    assert run.broken() == {KEPT, STALE}


def test_a_heartbeat_under_a_stale_fence(recorded: Recorded) -> None:
    run, _, job, _ = recorded
    run.journal("POST", "/v1/heartbeat", {"verdict": "continue"},
                  {"job": job.id, "fence": 1, "progress": 0.5})
    assert run.broken() == {STALE}


def test_the_same_result_again_is_no_violation(recorded: Recorded) -> None:
    """The first response may have been lost; a later lease may have been granted meanwhile."""
    run, _, job, accepted = recorded
    run.journal("PUT", accepted.path, {"accepted": True}, query=accepted.query,
                  sha256=accepted.sha256)
    assert run.broken() == set()


def test_a_failed_result_may_be_replaced_a_successful_one_not(recorded: Recorded) -> None:
    run, agent, _, _ = recorded
    run.submit(attempt=2)  # the job failed with a reason that allows a new attempt
    again = run.lease(agent)
    run.put(agent, again)
    assert run.broken() == set()
    change(run, "UPDATE jobs SET fence = 98 WHERE id = 1")
    assert KEPT in run.broken()


@pytest.mark.parametrize("lose", [
    lambda run: change(run, "UPDATE trials SET state = 'running'"),
    lambda run: change(run, """UPDATE trials SET "values" = '{"accuracy": 0.1}'"""),
    lambda run: change(run, "DELETE FROM trials"),
])
def test_a_trial_differs_from_its_last_update(
        recorded: Recorded, lose: Callable[[RecordedRun], None]) -> None:
    run = recorded[0]
    _create_trial(run)
    assert run.broken() == set()
    lose(run)
    assert run.broken() == {TRIALS}


def test_a_campaign_runs_again_after_it_was_done(recorded: Recorded) -> None:
    run = recorded[0]
    _create_trial(run)
    run.journal("PUT", "/v1/campaigns/digits/state", {"name": "digits"}, {"state": "done"})
    assert run.broken() == {CAMPAIGNS}
    run.lab.coordinator.set_campaign_state("digits", "done")
    assert run.broken() == set()


def _create_trial(run: RecordedRun) -> None:
    """Creates a campaign with one complete trial, and journals it."""
    from searcher.ledger.tables import builds, campaigns

    one, store = recipe(), run.lab.store
    with store.atomic() as db:
        campaigns.create(db, "digits", SPEC, 0.0)
        builds.put_recipe(db, one.hash, one.as_list())
        trial = trials.create(db, "digits", "board", one.hash, {}, {}, 0.0)
        trials.tell(db, trial, "complete", {"values": {"accuracy": 0.9}}, 1.0)
    run.journal("POST", "/v1/campaigns", {"name": "digits"}, SPEC)
    run.journal("POST", "/v1/campaigns/digits/trials", {"id": trial}, {"recipe": one.hash})
    run.journal("PUT", f"/v1/trials/{trial}", {"id": trial},
                  {"state": "complete", "values": {"accuracy": 0.9}})
