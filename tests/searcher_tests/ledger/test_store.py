"""Opening, writing and reading the ledger."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database

from searcher.errors import LedgerError
from searcher.ledger import schema
from searcher.ledger.clock import steady_clock
from searcher.ledger.migrations import bring_up_to_date
from searcher.ledger.read_only import open_ledger
from searcher.ledger.store import LedgerUnavailable, Store, next_number, savepoint


def test_every_commit_is_durable(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "ledger.db")
    pragmas = {name: store.db.execute(f"PRAGMA {name}").fetchone()[0] for name in (
        "journal_mode", "synchronous", "foreign_keys", "busy_timeout")}
    assert pragmas == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    assert os.stat(store.path).st_mode & 0o077 == 0
    store.close()


def test_all_or_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    with pytest.raises(RuntimeError), store.atomic() as db:
        next_number(db, "fence")
        raise RuntimeError("the power fails")
    with store.atomic() as db:
        assert next_number(db, "fence") == 1
        with pytest.raises(sqlite3.IntegrityError), db.atomic():
            next_number(db, "fence")
            db.execute("INSERT INTO job_requests VALUES ('nobody', 5)")
        assert next_number(db, "fence") == 2
    store.close()


def fence(path: Path) -> int:
    """The committed state, as a reader sees it."""
    with open_ledger(path) as db:
        return int(db.execute("SELECT value FROM counters WHERE name = 'fence'").fetchone()[0])


def test_grouped_writes_become_durable_together(tmp_path: Path) -> None:
    store, opened, told = Store(tmp_path / "ledger.db"), [], []
    store.opened = opened.append
    for _ in range(2):
        with store.grouped() as db:
            next_number(db, "fence")
    with pytest.raises(RuntimeError), store.grouped():
        raise RuntimeError("it had not written yet")
    with store.grouped() as db, pytest.raises(RuntimeError), savepoint(db, "expected"):
        next_number(db, "fence")
        raise RuntimeError("this one alone is undone")
    batch = store.batch
    assert opened == [batch] and batch is not None
    batch.when_ended(lambda: told.append(fence(store.path)))
    assert fence(store.path) == 0 and told == []
    store.commit()
    assert told == [2] and batch.error is None and store.batch is None
    batch.when_ended(lambda: told.append("at once"))
    assert told == [2, "at once"]
    store.close()


def test_a_block_that_fails_half_way_takes_its_batch_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    store.opened = lambda batch: None
    with store.grouped() as db:
        next_number(db, "fence")
    batch = store.batch
    with pytest.raises(RuntimeError), store.grouped() as db:
        next_number(db, "fence")
        raise RuntimeError("a defect")
    assert batch is not None and isinstance(batch.error, LedgerUnavailable)
    assert fence(store.path) == 0 and store.batch is None
    with pytest.raises(RuntimeError), store.atomic() as db:
        next_number(db, "fence")
        raise RuntimeError("an atomic one harms itself only")
    store.commit()
    assert fence(store.path) == 0
    store.close()


def test_an_atomic_write_takes_the_open_batch_along(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    store.opened = lambda batch: None
    with store.grouped() as db:
        next_number(db, "fence")
    with store.atomic() as db:
        next_number(db, "fence")
        with store.atomic():
            next_number(db, "fence")
    assert fence(store.path) == 3 and store.batch is None
    store.close()


def test_a_group_within_an_atomic_write_is_undone_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    with pytest.raises(RuntimeError), store.atomic():
        with store.grouped() as db:
            next_number(db, "fence")
        raise RuntimeError("all or nothing")
    assert fence(store.path) == 0 and store.batch is None
    store.close()


def test_a_batch_that_cannot_be_committed_fails_for_all_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    store.opened = lambda batch: None
    with store.grouped() as db:
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.execute("INSERT INTO job_requests VALUES ('nobody', 5)")
        next_number(db, "fence")
    batch = store.batch
    with pytest.raises(LedgerError):
        store.commit()
    assert batch is not None and batch.ended and isinstance(batch.error, LedgerError)
    assert fence(store.path) == 0
    with store.atomic() as db:
        assert next_number(db, "fence") == 1, "the next one is not harmed"
    store.close()


def test_without_anyone_to_commit_later_each_group_is_durable(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    with store.grouped() as db:
        next_number(db, "fence")
    assert fence(store.path) == 1
    with pytest.raises(RuntimeError), store.grouped() as db:
        next_number(db, "fence")
        raise RuntimeError
    assert fence(store.path) == 1 and store.batch is None
    store.close()


def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    script = (
        "import os, sys; from pathlib import Path; from searcher.ledger.store import *\n"
        "store = Store(Path(sys.argv[1]))\n"
        "with store.atomic() as db: next_number(db, 'fence')\n"
        "db.execute('BEGIN'); next_number(db, 'fence'); os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert ended.returncode == -9
    with open_ledger(path) as db:
        assert db.execute("SELECT value FROM counters WHERE name = 'fence'").fetchone()[0] == 1


def test_a_read_only_ledger_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    store.db.execute("PRAGMA query_only = ON").fetchall()
    with pytest.raises(LedgerUnavailable, match="cannot be written"), store.atomic() as db:
        next_number(db, "fence")
    store.close()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look at" * 20])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=str(path)):
        Store(path)
    with pytest.raises(LedgerError, match=str(path)), open_ledger(path):
        pass


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    other = Database(path)
    other["birds"].insert({"name": "wren"})
    other.close()
    with pytest.raises(LedgerError, match="birds"):
        Store(path)


def test_a_newer_ledger_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = Store(path)
    store.db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    store.close()
    for opened in (Store, lambda p: open_ledger(p).__enter__()):
        with pytest.raises(LedgerError, match=f"version 99.* up to {schema.VERSION}"):
            opened(path)


def test_an_older_ledger_is_migrated_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Store(path).close()
    db = Database(sqlite3.connect(path, isolation_level=None), execute_plugins=False)
    now = schema.VERSION
    steps = {
        now: lambda db: db.execute("ALTER TABLE devices ADD COLUMN colour TEXT"),
        now + 1: lambda db: db.execute("CREATE TABLE birds (name TEXT)"),
    }
    bring_up_to_date(db, steps, known=now + 2)
    assert "colour" in db["devices"].columns_dict and "birds" in db.table_names()
    bring_up_to_date(db, steps, known=now + 2)

    def fails(db: Database) -> None:
        db.execute("DROP TABLE birds")
        raise LedgerError("the step fails")

    with pytest.raises(LedgerError):
        bring_up_to_date(db, {now + 2: fails}, known=now + 3)
    assert "birds" in db.table_names()
    with pytest.raises(LedgerError, match=f"leads from ledger version {now + 2} to {now + 3}"):
        bring_up_to_date(db, {}, known=now + 3)
    db.close()


def test_readers_cannot_write_and_see_commits_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = Store(path)
    with open_ledger(path) as db:
        with store.atomic() as writer:
            next_number(writer, "fence")
            assert db.execute("SELECT value FROM counters").fetchone()[0] == 0
        assert db.execute("SELECT value FROM counters").fetchone()[0] == 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM counters")
    store.close()


def test_there_must_be_a_ledger_to_read(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="There is no ledger"), open_ledger(tmp_path / "no.db"):
        pass
    assert not (tmp_path / "no.db").exists()


def test_the_clock_never_runs_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = steady_clock()
    before_s = clock()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert clock() >= before_s
