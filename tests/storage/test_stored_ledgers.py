"""Ledgers of every schema version so far open, are brought up to date and keep their content."""

import shutil
from pathlib import Path

import pytest
from sqlite_utils import Database

from searcher.errors import LedgerError
from searcher.ledger import builds, campaigns, jobs, measurements, spans, trials
from searcher.ledger.reading import open_ledger
from searcher.ledger.store import Store
from tests.searcher_tests.devices.laboratory import Laboratory
from tests.storage.make_v1 import STORED


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    shutil.copy(STORED, path)
    return path


def test_version_1_opens_and_keeps_its_content(stored: Path) -> None:
    store = Store(stored)
    db = store.db
    campaign = campaigns.get(db, "digits")
    assert campaign is not None and campaign.baseline == {"sha256": "b" * 64}
    told, running = trials.history(db, "digits")
    assert (told.state, told.values, running.state) == ("complete", {"accuracy": 0.75}, "running")
    measurement = measurements.get(db, told.measurement or 0)
    assert measurement is not None and measurement.verdict == "valid"
    samples = measurements.samples(db, measurement.id)
    assert samples is not None and len(samples.calls_ns) == 36
    [build] = builds.of_recipe(db, told.recipe)
    assert builds.evaluation(db, build.sha256, "validation") is not None
    assert [s.kind for s in spans.history(db)] == ["build", "measure"]
    assert jobs.counts(db, "digits") == {"done": 2, "queued": 1}
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    store.close()


def test_version_1_goes_on(stored: Path) -> None:
    lab = Laboratory.open(stored.parent)
    builder = lab.builder()
    lab.done(builder, lab.leased(builder))
    lab.store.close()


def test_an_older_ledger_is_read_only_after_its_coordinator_brought_it_up_to_date(
        stored: Path) -> None:
    with pytest.raises(LedgerError, match="schema version 1"), open_ledger(stored):
        pass
    Store(stored).close()
    with open_ledger(stored) as db:
        assert trials.counts(db, "digits")["complete"] == 1


def test_a_migrated_ledger_has_the_tables_of_a_new_one(stored: Path, tmp_path: Path) -> None:
    fresh, old = Store(tmp_path / "fresh.db"), Store(stored)
    assert _tables(fresh.db) == _tables(old.db)
    fresh.close()
    old.close()


def _tables(db: Database) -> dict[str, object]:
    """Columns of every table and index, whatever statements made them."""
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    indexes = db.execute(
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    return {
        **{name: [tuple(c)[1:] for c in db.execute(f"PRAGMA table_info({name})")]
           for name in names},
        **{f"{name} of {table}": [tuple(c) for c in db.execute(f"PRAGMA index_info({name})")]
           for name, table in indexes.fetchall()}}
