"""Ledgers of every schema version so far open, are brought up to date and keep their content."""

import shutil
from pathlib import Path

import pytest

from searcher.ledger import builds, campaigns, jobs, measurements, schema, spans, trials
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


def test_version_1_can_be_read_as_it_is(stored: Path) -> None:
    if schema.VERSION == 1:
        with open_ledger(stored) as db:
            assert trials.counts(db, "digits")["complete"] == 1


@pytest.mark.skipif(schema.VERSION != 1, reason="compares with the first version's statements")
def test_the_schema_does_not_change_without_a_version(stored: Path, tmp_path: Path) -> None:
    fresh, old = Store(tmp_path / "fresh.db"), Store(stored)
    statements = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    assert fresh.db.execute(statements).fetchall() == old.db.execute(statements).fetchall()
    fresh.close()
    old.close()
