"""The one writer of the ledger: it lives in the coordinator process and nowhere else.

Group commit: what a ``grouped`` block writes joins the open batch, and one COMMIT (one fsync)
makes all of it durable. Nobody may be told of it before the batch has ended well::

    grouped  |w1| |w2|    |w3|                 |w4|
    batch    [ ................ COMMIT ]       [ ... COMMIT ]
    answers                            1 2 3                 4
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from searcher.errors import LedgerError
from searcher.ledger.migrations import bring_up_to_date

BUSY_TIMEOUT_S = 5.0


class LedgerFull(LedgerError):
    """No room is left where the ledger lies; nothing of the refused write was stored."""


class LedgerUnavailable(LedgerError):
    """The ledger could not be written (read-only, locked, an I/O error); nothing was stored."""


def translated(error: sqlite3.Error, path: Path) -> LedgerError:
    """The ledger's own error for one of SQLite's."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if name == "SQLITE_FULL":
        return LedgerFull(
            f"No room is left for the ledger {path} ({error}). Free some space; nothing that was "
            "acknowledged is lost and the same request may be sent again."
        )
    if is_damage(error):
        return LedgerUnavailable(
            f"The ledger {path} is damaged: {error}. Stop the coordinator and put a backup in its "
            f"place; what is damaged: fleetfront ledger check --dir {path.parent}"
        )
    return LedgerUnavailable(
        f"The ledger {path} cannot be written: {error} ({name}). Check the disk and permissions "
        "of its folder; the same request may be sent again."
    )


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault: bytes were overwritten, or it is no database."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith("SQLITE_CORRUPT") or name == "SQLITE_NOTADB"


class Batch:
    """Writes that become durable together; ``error`` says why they did not."""

    def __init__(self) -> None:
        self.ended = self.inside = False
        self.error: LedgerError | None = None
        self._then: list[Callable[[], None]] = []

    def when_ended(self, call: Callable[[], None]) -> None:
        """``call`` runs when the batch has ended, at once if it has."""
        if self.ended:
            call()
        else:
            self._then.append(call)

    def end(self, error: LedgerError | None) -> None:
        self.ended, self.error = True, error
        then, self._then = self._then, []
        for call in then:
            call()


@contextmanager
def savepoint(db: Database, name: str) -> Iterator[None]:
    """Inside a transaction: all or nothing of what is written in the block."""
    db.execute(f"SAVEPOINT {name}")
    try:
        yield
    except BaseException:
        # A full disk may have ended the whole transaction, savepoints included.
        if db.conn.in_transaction:
            db.execute(f"ROLLBACK TO {name}")
            db.execute(f"RELEASE {name}")
        raise
    db.execute(f"RELEASE {name}")


class Store:
    """An open ledger, schema up to date; WAL, every commit synced before it returns.

    Use from one thread only. ``db`` is for the query functions of this package. ``opened(batch)``
    is called for every new batch and must see to it that ``commit`` is called soon; without it
    each ``grouped`` block is its own batch. ``commits`` took ``commit_s`` altogether.
    Raises LedgerError when the file cannot be opened or belongs to a newer program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.batch: Batch | None = None
        self.opened: Callable[[Batch], None] | None = None
        self.commits, self.commit_s = 0, 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"The ledger {path} cannot be opened: {error}.") from error
        self.db = Database(connection, execute_plugins=False)
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self.db.execute(f"PRAGMA {pragma}").fetchall()
            bring_up_to_date(self.db)
        except sqlite3.Error as error:
            self.db.close()
            if is_damage(error):
                raise translated(error, path) from error
            raise LedgerError(f"The ledger {path} cannot be opened: {error}.") from error
        except LedgerError as error:
            self.db.close()
            raise LedgerError(f"{path}: {error}") from error

    @contextmanager
    def grouped(self) -> Iterator[Database]:
        """Writes of the block, durable when ``batch`` has ended without an error.

        Look first, then write: a block that fails after it has written takes its whole batch with
        it (``savepoint`` is for blocks that are expected to). Within another block it is part of
        that one. Raises LedgerFull, LedgerUnavailable.
        """
        if self.batch is not None and self.batch.inside:
            yield self.db
            return
        try:
            with self._joined():
                yield self.db
        finally:
            if self.opened is None:
                self.commit()

    @contextmanager
    def atomic(self) -> Iterator[Database]:
        """All or nothing, durable on return, with all that was grouped before.

        Raises LedgerFull or LedgerUnavailable.
        """
        if self.batch is not None and self.batch.inside:
            with savepoint(self.db, "nested"):
                yield self.db
            return
        try:
            with self._joined(), savepoint(self.db, "atomic"):
                yield self.db
        except BaseException:
            if self.opened is None:
                self.commit()
            raise
        self.commit()

    def commit(self) -> None:
        """End the open batch, if any. Raises LedgerFull or LedgerUnavailable; all of the batch is
        then undone."""
        batch = self.batch
        if batch is None:
            return
        began_s = time.perf_counter()
        try:
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo(batch, translated(error, self.path))
            raise translated(error, self.path) from error
        self.commits += 1
        self.commit_s += time.perf_counter() - began_s
        self.batch = None
        batch.end(None)

    @contextmanager
    def _joined(self) -> Iterator[None]:
        batch = self.batch or self._open()
        batch.inside, before = True, self.db.conn.total_changes
        try:
            yield
        except BaseException as error:
            failure = translated(error, self.path) if isinstance(error, sqlite3.Error) else None
            # A full disk may have ended the whole transaction.
            if not self.db.conn.in_transaction or self.db.conn.total_changes != before:
                self._undo(batch, failure or LedgerUnavailable(
                    f"A request failed while it was written to {self.path}, and all beside it was "
                    "undone. The same request may be sent again."))
            if failure is None or isinstance(error, sqlite3.IntegrityError):
                raise
            raise failure from error
        finally:
            batch.inside = False

    def _open(self) -> Batch:
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        self.batch = Batch()
        if self.opened is not None:
            self.opened(self.batch)
        return self.batch

    def _undo(self, batch: Batch, error: LedgerError) -> None:
        self.batch = None
        if self.db.conn.in_transaction:
            self.db.execute("ROLLBACK")
        batch.end(error)

    def close(self) -> None:
        self.commit()
        self.db.close()


def next_number(db: Database, counter: str) -> int:
    """The next value of a counter, strictly increasing over the ledger's life."""
    row = db.execute(
        "UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value", [counter]
    ).fetchone()
    return int(row[0])
