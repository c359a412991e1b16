"""The audit finds what it must find, and nothing in a true story."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.journal import Exchange
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.tables import trials
from tests.benchmarks_tests.chaos_story import Story, story_in
from tests.searcher_tests.dispatch.laboratory import SPEC, envelope, recipe

KEPT = "every acknowledged result is in the ledger"
STORED = "its measurements, build or evaluation are stored exactly once"
JOBS = "every acknowledged job is in the ledger and has ended"
FENCES = "fences only grow, per job and over all"
STALE = "no stale fence is accepted"
LEASES = "no lease is lost"
TRIALS = "every acknowledged trial is in the ledger as told"
CAMPAIGNS = "every acknowledged campaign is in the ledger; done stays done"
FILES = "every file is whole"
SOUND = "the ledger is sound (integrity and foreign keys)"

Told = tuple[Story, AgentRow, JobRow, Exchange]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    found = story_in(tmp_path)
    yield found
    found[0].lab.store.close()


def change(story: Story, sql: str) -> None:
    """What a defect would do to the ledger."""
    story.lab.store.db.conn.execute("PRAGMA foreign_keys = OFF")
    story.lab.store.db.conn.execute(sql)


def test_a_true_story_holds(told: Told) -> None:
    story = told[0]
    assert story.broken() == set()
    checked = {rule for rule, finding in story.findings().items() if finding.checked}
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
def test_what_was_acknowledged_and_is_not_there(told: Told, sql: str, rules: set[str]) -> None:
    change(told[0], sql)
    assert told[0].broken() == rules


def test_a_measurement_that_is_there_twice(told: Told) -> None:
    columns = ", ".join(c.name for c in told[0].lab.store.db["measurements"].columns
                        if c.name != "id")
    change(told[0], f"INSERT INTO measurements ({columns}) SELECT {columns} FROM measurements")
    assert told[0].broken() == {STORED}


def test_another_result_than_the_acknowledged(told: Told) -> None:
    story, _, _, accepted = told
    other = story.result(told[2], envelope({"reason": "x", "message": "y"}, "failed"))[0]
    story.change(accepted, sha256=other)
    assert story.broken() == {KEPT}


def test_a_damaged_file(told: Told) -> None:
    next((told[0].lab.folder / "artifacts").iterdir()).write_bytes(b"damaged")
    assert told[0].broken() == {FILES}


def test_one_fence_for_two_leases(told: Told) -> None:
    """So it is when a lease was acknowledged before the commit, and lost."""
    story = told[0]
    first = story.exchanges[1]
    story.journal("POST", "/v1/lease", {"job": 2, "attempt": 2, "fence": first.answer["fence"]})
    assert FENCES in story.broken()


def test_a_lease_that_the_ledger_has_forgotten(told: Told) -> None:
    story = told[0]
    story.journal("POST", "/v1/lease", {"job": 1, "attempt": 3, "fence": 99})
    assert story.broken() == {LEASES}


def test_a_result_under_a_stale_fence(told: Told) -> None:
    """The first lease's result is accepted although the second lease was out."""
    story, _, job, accepted = told
    story.journal("PUT", f"/v1/results/{job.id}/1", {"accepted": True}, query={"fence": "1"},
                  sha256=accepted.sha256)
    assert story.broken() == {KEPT, STALE}


def test_a_heartbeat_under_a_stale_fence(told: Told) -> None:
    story, _, job, _ = told
    story.journal("POST", "/v1/heartbeat", {"verdict": "continue"},
                  {"job": job.id, "fence": 1, "progress": 0.5})
    assert story.broken() == {STALE}


def test_the_same_result_again_is_no_violation(told: Told) -> None:
    """Its first answer may have been lost on the way; another lease may be out elsewhere."""
    story, _, job, accepted = told
    story.journal("PUT", accepted.path, {"accepted": True}, query=accepted.query,
                  sha256=accepted.sha256)
    assert story.broken() == set()


def test_a_failure_may_be_overruled_a_success_not(told: Told) -> None:
    story, agent, _, _ = told
    story.submit(attempt=2)  # failed for a reason that is not the job's: it starts over
    again = story.lease(agent)
    story.put(agent, again)
    assert story.broken() == set()
    change(story, "UPDATE jobs SET fence = 98 WHERE id = 1")
    assert KEPT in story.broken()


@pytest.mark.parametrize("lose", [
    lambda story: change(story, "UPDATE trials SET state = 'running'"),
    lambda story: change(story, """UPDATE trials SET "values" = '{"accuracy": 0.1}'"""),
    lambda story: change(story, "DELETE FROM trials"),
])
def test_a_trial_that_is_not_as_it_was_told(told: Told, lose: Callable[[Story], None]) -> None:
    story = told[0]
    _tell(story)
    assert story.broken() == set()
    lose(story)
    assert story.broken() == {TRIALS}


def test_a_campaign_that_was_done_and_runs_again(told: Told) -> None:
    story = told[0]
    _tell(story)
    story.journal("PUT", "/v1/campaigns/digits/state", {"name": "digits"}, {"state": "done"})
    assert story.broken() == {CAMPAIGNS}
    story.lab.coordinator.set_campaign_state("digits", "done")
    assert story.broken() == set()


def _tell(story: Story) -> None:
    """A campaign with one trial, created and told."""
    from searcher.ledger.tables import builds, campaigns

    one, store = recipe(), story.lab.store
    with store.atomic() as db:
        campaigns.create(db, "digits", SPEC, 0.0)
        builds.put_recipe(db, one.hash, one.as_list())
        trial = trials.create(db, "digits", "board", one.hash, {}, {}, 0.0)
        trials.tell(db, trial, "complete", {"values": {"accuracy": 0.9}}, 1.0)
    story.journal("POST", "/v1/campaigns", {"name": "digits"}, SPEC)
    story.journal("POST", "/v1/campaigns/digits/trials", {"id": trial}, {"recipe": one.hash})
    story.journal("PUT", f"/v1/trials/{trial}", {"id": trial},
                  {"state": "complete", "values": {"accuracy": 0.9}})
