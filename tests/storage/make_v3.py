"""Writes ``v3.db``, the ledger of schema version 3 that must always open.

    python -m tests.storage.make_v3

It was written once, by the program of that version. Never write it again: a change of the schema
is a new version, with a migration and a stored ledger of its own.
"""

import sqlite3
import tempfile
from pathlib import Path

from searcher.ledger.tables import measurements
from tests.searcher_tests.dispatch.laboratory import RAILS, Laboratory
from tests.storage import make_v2

STORED = Path(__file__).with_name("v3.db")


def fill(folder: Path) -> Laboratory:
    """What version 2 stored, and the rails of its measurement."""
    lab = make_v2.fill(folder)
    with lab.store.atomic() as db:
        measurements.put_rails(db, 1, measurements.compressed_rails(RAILS))
    return lab


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = fill(Path(folder))
        target = sqlite3.connect(STORED)
        lab.store.db.conn.backup(target)
        target.execute("PRAGMA journal_mode = DELETE").fetchall()
        target.execute("VACUUM")
        target.close()
        lab.store.close()


if __name__ == "__main__":
    main()
