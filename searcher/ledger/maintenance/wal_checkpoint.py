"""Checkpoints beside the writer: a thread of its own copies into the ledger what the log holds.

    writer   |commit|commit|commit|commit|commit|commit| ...   the one that finds a long log copies
    thread          |copy|    |copy|    |copy|    |copy|       what is left; then it begins anew

Left to itself SQLite has one commit in a hundred copy for all: 60 to 130 ms in which the
coordinator, which has one thread, answers nobody; so it is under 50 (``benchmarks.load --only b``).
Nothing is lost with the thread: the writer copies what it did not.
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
    """Of the ledger at ``path``, from ``start`` to ``stop``; it is written elsewhere."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Before the writer closes, which copies the rest; once it has not started, too."""
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
                    # The next commit meets it too, and says what to do; here once is enough.
                    if not failing:
                        log.warning("the log of %s was not copied into it: %s", self._path, error)
                    failing = True


def copy_long_log(connection: sqlite3.Connection, path: Path) -> None:
    """Copy into the ledger what its log holds, where that is longer than it is cut to when it
    begins anew. Raises sqlite3.Error."""
    try:
        held = path.with_name(f"{path.name}-wal").stat().st_size
    except FileNotFoundError:
        return
    if held > LOG_BYTES:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
