"""The shipped coordinator with a bug planted into it: it acknowledges before it commits.

    python -m benchmarks.chaos.planted --dir DIR ...        as searcher.api.server

Every COMMIT is said to have happened and does happen, up to ``LATE_S`` later. Nothing shows as
long as the process lives; what a SIGKILL finds uncommitted was acknowledged and is gone.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from sqlite_utils import Database

LATE_S = 1.0
BUSY_S = 0.005


class LateCommits:
    """Stands in for ``Database.execute``; one connection, one event loop."""

    def __init__(self, execute: Callable[..., Any]) -> None:
        self._execute = execute
        self._owed = False
        self._due = False

    def execute(self, db: Database, sql: str, parameters: Any = None) -> Any:
        words = sql.split()
        verb = words[0].upper() if words else ""
        if verb == "COMMIT" and _running() is not None:
            self._owed = True
            self._pay_later(db, LATE_S)
            return None
        if verb == "BEGIN" and self._owed:
            self._owed = False  # goes on in the transaction that is still open
            return None
        return self._execute(db, sql) if parameters is None else self._execute(
            db, sql, parameters)

    def _pay_later(self, db: Database, delay_s: float) -> None:
        loop = _running()
        if not self._due and loop is not None:
            self._due = True
            loop.call_later(delay_s, self._pay, db)

    def _pay(self, db: Database) -> None:
        self._due = False
        if self._owed:
            self._owed = False
            self._execute(db, "COMMIT")
        elif db.conn is not None and db.conn.in_transaction:
            self._pay_later(db, BUSY_S)  # in the middle of a batch


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def plant() -> None:
    """From now on commits of this process come late."""
    late = LateCommits(Database.execute)

    def execute(db: Database, sql: str, parameters: Any = None) -> Any:
        return late.execute(db, sql, parameters)

    setattr(Database, "execute", execute)  # noqa: B010  as a whole, for every connection


if __name__ == "__main__":
    plant()
    from searcher.api.server import main

    sys.exit(main())
