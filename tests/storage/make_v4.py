"""Writes ``v4.db``, the ledger of schema version 4 that must always open.

    python -m tests.storage.make_v4

It was written once, by the program of that version. Never write it again: a change of the schema
is a new version, with a migration and a stored ledger of its own.
"""

import sqlite3
import tempfile
from pathlib import Path

from searcher.ledger.tables import search_state
from searcher.ledger.tables.search_state import (
    BaselineState,
    DeviceQuality,
    FileRef,
    JointEntry,
    SearchState,
    TrainedState,
)
from tests.searcher_tests.dispatch.laboratory import Laboratory
from tests.storage import make_v3

STORED = Path(__file__).with_name("v4.db")
# As it is read today: the stored file has the constraint ``accuracy_drop``.
STATE = SearchState(
    BaselineState("b" * 64, 900, 0.001, {"accuracy": 0.99}, {"accuracy": [0.98, 1.0]}, 1,
                  DeviceQuality("tx2/onnxruntime/CUDAExecutionProvider", "another provider",
                                 {"test": FileRef("c" * 64, 12)}, {"accuracy": 0.97},
                                 {"accuracy": [0.96, 0.98]})),
    12.5, 30.0, {1: JointEntry("a" * 64, {"latency_s": 0.0005}, {"latency_s": [0.0004, 0.0006]},
                               {"quality_drop": -0.01}, 1)},
    ("tx2: it reports less memory",), (1,), {2: TrainedState({"accuracy": 0.9}, {}, 0.03)})


def fill(folder: Path) -> Laboratory:
    """What version 3 stored, and the state of a search."""
    lab = make_v3.fill(folder)
    with lab.store.atomic() as db:
        search_state.put(db, "digits", "tx2", STATE, 5.0)
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
