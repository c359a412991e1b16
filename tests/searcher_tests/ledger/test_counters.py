"""Counters of events: exact, rolled back with the transaction, not stored in the file."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.ledger.store import Store
from searcher.ledger.tables import builds, campaigns, counters, trials
from tests.searcher_tests.dispatch.laboratory import SPEC, Laboratory, envelope, recipe


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    counters.begin(laboratory.store.db)
    yield laboratory
    laboratory.store.close()


def counted(store: Store, what: str) -> dict[str, int]:
    return {state: n for state, n in counters.read(store.db, what) if n}


def test_jobs_are_counted_when_they_end(lab: Laboratory) -> None:
    builder = lab.builder()
    for number in range(4):
        lab.compress(number)
    lab.done(builder, lab.leased(builder))
    ended = counters.EndedJobs(lab.store.db)
    for _ in range(2):
        lab.put(builder, lab.leased(builder), envelope({"reason": "x", "message": ""}, "failed"))
    for _ in range(2):
        ended.catch_up()
        assert ended.counts == {("compress", "failed"): 2}
    assert lab.compress(1, retry=True).state == "queued"
    lab.done(builder, lab.leased(builder))
    ended.catch_up()
    assert ended.counts == {("compress", "failed"): 2, ("compress", "done"): 1}


def test_numbers_that_a_full_disk_took_back_are_counted_again(lab: Laboratory) -> None:
    builder = lab.builder()
    lab.compress()
    ended = counters.EndedJobs(lab.store.db)
    leased = lab.leased(builder)
    with pytest.raises(RuntimeError), lab.store.atomic():
        lab.done(builder, leased)
        ended.catch_up()
        raise RuntimeError
    ended.catch_up()
    lab.done(builder, leased)
    ended.catch_up()
    assert ended.counts == {("compress", "done"): 2}


def test_campaigns_and_trials_by_state(lab: Laboratory) -> None:
    store = lab.store
    for name in ("a", "b"):
        campaigns.create(store.db, name, {**SPEC, "name": name}, 1.0)
    campaigns.set_state(store.db, "a", "running", None, 2.0)
    campaigns.set_state(store.db, "a", "running", "again", 3.0)
    assert counted(store, "campaign") == {"queued": 1, "running": 1}
    counters.begin(store.db)
    assert counted(store, "campaign") == {"queued": 1, "running": 1}
    campaigns.set_state(store.db, "b", "done", None, 4.0)
    assert counted(store, "campaign") == {"running": 1, "done": 1}


def test_what_is_undone_is_not_counted(lab: Laboratory) -> None:
    with pytest.raises(RuntimeError), lab.store.atomic() as db:
        campaigns.create(db, "a", SPEC, 1.0)
        raise RuntimeError
    assert counted(lab.store, "campaign") == {}


def test_ids_are_those_of_the_rows(lab: Laboratory) -> None:
    """A trigger that inserts must not change what the insert before it returns."""
    db = lab.store.db
    campaigns.create(db, "a", SPEC, 1.0)
    builds.put_recipe(db, recipe().hash, recipe().as_list())
    created = [trials.create(db, "a", "tx2", recipe().hash, {"n": n}, {}, 2.0) for n in range(3)]
    assert [row.id for row in trials.history(db, "a")] == created
    assert counted(lab.store, "trial") == {"running": 3}


def test_nothing_of_it_is_in_the_file(lab: Laboratory) -> None:
    lab.compress()
    with sqlite3.connect(f"file:{lab.store.path}?mode=ro", uri=True) as other:
        names = {row[0] for row in other.execute("SELECT name FROM sqlite_master")}
    other.close()
    assert not {"tally", "trial_new", "campaign_changed"} & names
