"""Writes ``v5.db``, the ledger of schema version 5 that must always open.

    python -m tests.storage.make_v5

It was written once, by the program of that version. Never write it again: a change of the schema
is a new version, with a migration and a stored ledger of its own.
"""

import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from searcher.ledger.tables import evaluations, search_state
from searcher.ledger.tables.evaluations import Judged
from searcher.spec.objectives import Quality
from searcher.statistics.score_codec import pack
from tests.searcher_tests.dispatch.laboratory import Laboratory
from tests.storage import make_v4

STORED = Path(__file__).with_name("v5.db")
QUALITY = Quality("angle_error(unit=1)", "angle_error", "degree", "minimize", 2.5)
STATE = replace(make_v4.STATE, quality=QUALITY)
SCORES = np.array([[1, 2], [3, 0], [0, 5], [2, 2]], np.uint8)
NAMES, CODES = ("indoor", "outdoor"), np.array([0, 1, 1, 0], np.uint8)


def fill(folder: Path) -> Laboratory:
    """What version 4 stored, a state with another metric, and evaluations with scores of two
    columns, without scores, and with groups."""
    lab = make_v4.fill(folder)
    with lab.store.atomic() as db:
        search_state.put(db, "digits", "tx2", STATE, 6.0)
        (sha256,) = db.execute("SELECT sha256 FROM evaluations").fetchone()
        judged = Judged(sha256, "t", "test", evaluations.HOST, QUALITY.metric)
        row = evaluations.put(db, judged, 2.5, 4, (2.0, 3.0), *pack(SCORES), 1, 7.0)
        evaluations.put_labels(db, row.id, "group", NAMES, 4, *pack(CODES))
        evaluations.put(db, replace(judged, place="tx2/onnxruntime/x"), 2.75, 4, None, None, None,
                        1, 8.0)
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
