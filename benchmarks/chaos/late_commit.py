"""The shipped coordinator with one defect: it acknowledges writes before it commits them.

    python -m benchmarks.chaos.late_commit --dir DIR ...        options of searcher.api.server

Each COMMIT returns at once and is executed up to ``LATE_S`` later. The defect has no effect while
the process runs; a SIGKILL loses acknowledged writes that are not yet committed.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from sqlite_utils import Database

LATE_S = 1.0
BUSY_S = 0.005


class LateCommits:
    """Replacement of ``Database.execute`` for one connection and one event loop."""

    def __init__(self, execute: Callable[..., Any]) -> None:
        self._execute = execute
        self._pending = False
        self._scheduled = False

    def execute(self, db: Database, sql: str, parameters: Any = None) -> Any:
        words = sql.split()
        verb = words[0].upper() if words else ""
        if verb == "COMMIT" and _running() is not None:
            self._pending = True
            self._commit_later(db, LATE_S)
            return None
        if verb == "BEGIN" and self._pending:
            self._pending = False  # continues in the open transaction
            return None
        return self._execute(db, sql) if parameters is None else self._execute(
            db, sql, parameters)

    def _commit_later(self, db: Database, delay_s: float) -> None:
        loop = _running()
        if not self._scheduled and loop is not None:
            self._scheduled = True
            loop.call_later(delay_s, self._commit, db)

    def _commit(self, db: Database) -> None:
        self._scheduled = False
        if self._pending:
            self._pending = False
            self._execute(db, "COMMIT")
        elif db.conn is not None and db.conn.in_transaction:
            self._commit_later(db, BUSY_S)  # a batch is open


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def delay_commits() -> None:
    """Delays all later commits of this process."""
    late = LateCommits(Database.execute)

    def execute(db: Database, sql: str, parameters: Any = None) -> Any:
        return late.execute(db, sql, parameters)

    setattr(Database, "execute", execute)  # noqa: B010  for every connection


if __name__ == "__main__":
    delay_commits()
    from searcher.api.server import main

    sys.exit(main())
