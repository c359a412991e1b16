"""Writes ``v2.db``, the ledger of schema version 2 that must always open.

    python -m tests.storage.make_v2

It was written once, by the program of that version. Never write it again: a change of the schema
is a new version, with a migration and a stored ledger of its own.
"""

import sqlite3
import tempfile
from pathlib import Path

from searcher.ledger.rows import text
from searcher.ledger.tables import artifacts, builds
from tests.searcher_tests.dispatch.laboratory import Laboratory
from tests.storage import make_v1
from tests.stored_rows import builds_of_recipe

STORED = Path(__file__).with_name("v2.db")
UPLOADED = "d" * 64


def fill(folder: Path) -> Laboratory:
    """What version 1 stored, and of everything that version 2 added one row."""
    lab = make_v1.fill(folder)
    with lab.store.atomic() as db:
        now_s = lab.clock()
        db.execute("UPDATE campaigns SET priority = 7")
        db.execute("UPDATE devices SET strikes = 2, state = 'quarantined', reason = 'two hangs'")
        db.execute("UPDATE jobs SET queue_until_s = ? WHERE state = 'queued'", [now_s + 60.0])
        db.execute("INSERT INTO tokens VALUES ('t1', 'reader', 'viewer', ?, ?, NULL, NULL)",
                   ["c" * 64, now_s])
        db.execute("INSERT OR REPLACE INTO shares VALUES ('digits', 'builder', 12.5)")
        builds.put_artifact(db, UPLOADED, 9, now_s)
        db.execute("UPDATE artifacts SET origin = 'upload', inspection = ? WHERE sha256 = ?",
                   [text({"opset": 13}), UPLOADED])
        [build] = builds_of_recipe(db, next(db.query("SELECT recipe FROM builds"))["recipe"])
        artifacts.drop(db, [build.sha256], now_s)
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
