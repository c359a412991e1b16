"""The one writer of the ledger: it lives in the coordinator process and nowhere else."""

import os
import sqlite3
from collections.abc import Iterator
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
    return LedgerUnavailable(
        f"The ledger {path} cannot be written: {error} ({name}). Check the disk and permissions "
        "of its folder; the same request may be sent again."
    )


class Store:
    """An open ledger, schema up to date; WAL, every commit durable before it returns.

    Use from one thread only. ``db`` is for the query functions of this package.
    Raises LedgerError when the file cannot be opened or belongs to a newer program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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
            raise LedgerError(f"The ledger {path} cannot be opened: {error}.") from error
        except LedgerError as error:
            self.db.close()
            raise LedgerError(f"{path}: {error}") from error

    @contextmanager
    def atomic(self) -> Iterator[Database]:
        """All or nothing, durable on return. Raises LedgerFull or LedgerUnavailable."""
        try:
            with self.db.atomic():
                yield self.db
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise translated(error, self.path) from error

    def close(self) -> None:
        self.db.close()


def next_number(db: Database, counter: str) -> int:
    """The next value of a counter, strictly increasing over the ledger's life."""
    row = db.execute(
        "UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value", [counter]
    ).fetchone()
    return int(row[0])
