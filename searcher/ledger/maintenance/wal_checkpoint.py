"""Checkpoints of the write-ahead log in a thread of their own, beside the writer.

    writer   |commit|commit|commit|commit|commit|commit| ...   a commit that finds a long log
    thread          |copy|    |copy|    |copy|    |copy|       copies the rest and restarts it

Without the thread, about one commit in a hundred copies the whole log. This takes 60 to 130 ms, in
which the coordinator, which has one thread, answers no request; with the thread it takes less than
50 ms (``benchmarks.load --only b``). If the thread ends, the writer copies the log itself.
"""

import logging
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from searcher.ledger.store import LOG_BYTES

log = logging.getLogger(__name__)

EVERY_S = 0.25


class Checkpoints:
    """Checkpoints the ledger at ``path`` from ``start`` to ``stop``. The writer is another
    connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Call before the writer closes; the writer copies the rest. May be called without
        ``start``."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        failing = False
        with closing(sqlite3.connect(self._path, timeout=0.0, isolation_level=None)) as connection:
            while not self._ended.wait(EVERY_S):
                try:
                    copy_long_log(connection, self._path)
                    failing = False
                except sqlite3.Error as error:
                    # The next commit meets the same error and says what to do: log it once.
                    if not failing:
                        log.warning("the write-ahead log of %s was not copied into it: %s",
                                    self._path, error)
                    failing = True


def copy_long_log(connection: sqlite3.Connection, path: Path) -> None:
    """Copy the log into the ledger if it is longer than ``LOG_BYTES``. Raises sqlite3.Error."""
    try:
        held = path.with_name(f"{path.name}-wal").stat().st_size
    except FileNotFoundError:
        return
    if held > LOG_BYTES:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
