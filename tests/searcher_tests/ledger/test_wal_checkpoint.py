"""The thread that copies the log into the ledger, and what is left when it is not there."""

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from searcher.ledger.maintenance import wal_checkpoint
from searcher.ledger.maintenance.wal_checkpoint import Checkpoints, copy_long_log
from searcher.ledger.store import LOG_BYTES, Store

BLOB = bytes(100_000)


def write(store: Store, rows: int) -> None:
    with store.atomic() as db:
        for _ in range(rows):
            db.execute("INSERT INTO notes VALUES (?)", [BLOB])


def rows_without_log(store: Store, folder: Path) -> int:
    """How many rows the ledger's own file holds."""
    alone = folder / "alone.db"
    shutil.copyfile(store.path, alone)
    with closing(sqlite3.connect(alone)) as connection:
        return int(connection.execute("SELECT count(*) FROM notes").fetchone()[0])


def log_of(store: Store) -> Path:
    return store.path.with_name("ledger.db-wal")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "ledger.db")
    store.db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    with store.atomic() as db:
        db.execute("CREATE TABLE notes (content BLOB)")
    store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return store


def test_a_long_log_is_copied_and_begins_anew(store: Store, tmp_path: Path) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None)) as beside:
        write(store, 10)
        copy_long_log(beside, store.path)
        assert rows_without_log(store, tmp_path) == 0, "a short one is left"
        write(store, 60)
        long = log_of(store).stat().st_size
        assert long > LOG_BYTES
        copy_long_log(beside, store.path)
        assert rows_without_log(store, tmp_path) == 70
        write(store, 1)
        assert log_of(store).stat().st_size <= LOG_BYTES < long
    store.close()


def test_an_open_write_is_neither_copied_nor_waited_for(store: Store, tmp_path: Path) -> None:
    with closing(sqlite3.connect(store.path, timeout=0.0, isolation_level=None)) as beside:
        write(store, 60)
        with store.atomic() as db:
            db.execute("INSERT INTO notes VALUES (?)", [BLOB])
            copy_long_log(beside, store.path)
            assert rows_without_log(store, tmp_path) == 60
    assert store.db.execute("SELECT count(*) FROM notes").fetchone()[0] == 61
    store.close()


def test_the_thread_copies_until_it_is_stopped(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, twice = threading.Event(), threading.Event()

    def seen(connection: sqlite3.Connection, path: Path) -> None:
        copy_long_log(connection, path)
        (twice if copied.is_set() else copied).set()
        if not twice.is_set():
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(wal_checkpoint, "EVERY_S", 0.001)
    monkeypatch.setattr(wal_checkpoint, "copy_long_log", seen)
    write(store, 60)
    beside = Checkpoints(store.path)
    beside.start()
    assert copied.wait(30.0) and rows_without_log(store, tmp_path) == 60
    assert twice.wait(30.0), "an error is no end"
    beside.stop()
    assert not beside._thread.is_alive()
    store.close()


def test_a_ledger_that_stays_read_only_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried, often = 0, threading.Event()

    def refused(connection: sqlite3.Connection, path: Path) -> None:
        nonlocal tried
        tried += 1
        if tried == 5:
            often.set()
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(wal_checkpoint, "EVERY_S", 0.001)
    monkeypatch.setattr(wal_checkpoint, "copy_long_log", refused)
    beside = Checkpoints(tmp_path / "ledger.db")
    beside.start()
    assert often.wait(30.0)
    beside.stop()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_stopped_before_it_began(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "ledger.db").stop()
    assert not (tmp_path / "ledger.db").exists()


def test_no_log_is_nothing_to_copy(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        copy_long_log(connection, tmp_path / "ledger.db")
