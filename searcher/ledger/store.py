"""The only writer of the ledger, used in the coordinator process.

Group commit: the writes of a ``grouped`` block join the open batch, and one COMMIT (one fsync)
makes the whole batch durable. A request is answered only after its batch was committed::

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

CACHE_KB = 65_536
"""Large enough that pages which are written repeatedly (of an index, of a device) stay in memory.
With SQLite's default of 2 MB, the p99 of a lease answer at half of the highest load is 0.3 to 1.7 s
instead of 0.04 s (``benchmarks.load --only b``, 30,000 jobs)."""


class LedgerFull(LedgerError):
    """The disk of the ledger is full; nothing of the refused write was stored."""


class LedgerUnavailable(LedgerError):
    """The ledger cannot be written (read-only, locked, I/O error); nothing was stored."""


def translated(error: sqlite3.Error, path: Path) -> LedgerError:
    """The LedgerError for an error of SQLite."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if name == "SQLITE_FULL":
        return LedgerFull(
            f"No room is left for the ledger {path} ({error}). Free some space and repeat the "
            "request. Nothing that was acknowledged is lost."
        )
    if is_damage(error):
        return LedgerUnavailable(
            f"The ledger {path} is damaged: {error}. Stop the coordinator and put a backup in its "
            f"place. To see what is damaged: fleetfront ledger check --dir {path.parent}"
        )
    return LedgerUnavailable(
        f"The ledger {path} cannot be written: {error} ({name}). Check the disk and the "
        "permissions of its folder, then repeat the request."
    )


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is damaged, or is not a database."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith("SQLITE_CORRUPT") or name == "SQLITE_NOTADB"


class WriteBatch:
    """Writes that become durable together. ``error`` is set when they did not."""

    def __init__(self) -> None:
        self.ended = self.inside = False
        self.error: LedgerError | None = None
        self._then: list[Callable[[], None]] = []

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call ``call`` when the batch has ended; at once if it has ended already."""
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
    """Within a transaction: store all writes of the block or none."""
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
    """An open ledger with the current schema, in WAL mode. A commit returns after its fsync.

    Use it from one thread only. ``db`` is for the query functions of this package.
    ``opened(batch)`` is called for every new batch and must arrange that ``commit`` is called
    soon; without it each ``grouped`` block is a batch of its own. ``commits`` counts commits,
    ``commit_s`` is their total time.
    Raises LedgerError when the file cannot be opened or was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.batch: WriteBatch | None = None
        self.opened: Callable[[WriteBatch], None] | None = None
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
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON",
                           f"cache_size = -{CACHE_KB}"):
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
        """The writes of the block are durable when ``batch`` has ended without an error.

        A block that fails after its first write undoes its whole batch; therefore check first,
        then write, or use ``savepoint``. A nested block belongs to the outer one. Raises
        LedgerFull or LedgerUnavailable.
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
        """Store all writes of the block or none, and commit them with the open batch on return.

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
        """Commit the open batch, if any. Raises LedgerFull or LedgerUnavailable after it undid the
        whole batch."""
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
                    f"A request failed while it was written to {self.path}; its whole batch was "
                    "undone. Repeat the request."))
            if failure is None or isinstance(error, sqlite3.IntegrityError):
                raise
            raise failure from error
        finally:
            batch.inside = False

    def _open(self) -> WriteBatch:
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        self.batch = WriteBatch()
        if self.opened is not None:
            self.opened(self.batch)
        return self.batch

    def _undo(self, batch: WriteBatch, error: LedgerError) -> None:
        self.batch = None
        if self.db.conn.in_transaction:
            self.db.execute("ROLLBACK")
        batch.end(error)

    def close(self) -> None:
        self.commit()
        self.db.close()


def next_number(db: Database, counter: str) -> int:
    """The next value of a counter. Values of a ledger never repeat and always increase."""
    row = db.execute(
        "UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value", [counter]
    ).fetchone()
    return int(row[0])
