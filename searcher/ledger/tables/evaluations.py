"""Evaluations: the metric of a file on a split of a task, and the labels of the split's samples."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from searcher.ledger.rows import EvaluationRow, LabelsRow, first, select, text

HOST = "host"
"""The place of evaluations that ran in a builder process."""


@dataclass(frozen=True)
class Judged:
    """What an evaluation is of. ``metric`` is the metric with its parameters."""

    sha256: str
    task: str
    split: str
    place: str
    metric: str


_OF = "sha256 = ? AND task = ? AND split = ? AND place = ? AND metric = ?"


def _key(judged: Judged) -> list[str]:
    return [judged.sha256, judged.task, judged.split, judged.place, judged.metric]


def put(
    db: Database, judged: Judged, value: float, n: int, interval: tuple[float, float] | None,
    scores: bytes | None, encoding: str | None, job: int, now_s: float,
) -> EvaluationRow:
    """Insert an evaluation unless there is one of the same. Returns the one in the ledger."""
    low, high = interval or (None, None)
    db.execute(
        """INSERT OR IGNORE INTO evaluations (sha256, task, split, place, metric, value, n, low,
             high, scores, encoding, job, created_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """, [*_key(judged), value, n, low, high, scores, encoding, job, now_s])
    return select(db, EvaluationRow, "evaluations", f"WHERE {_OF}", _key(judged))[0]


def get(db: Database, judged: Judged) -> EvaluationRow | None:
    return first(db, EvaluationRow, "evaluations", f"WHERE {_OF}", _key(judged))


def of_file(db: Database, sha256: str) -> list[EvaluationRow]:
    return select(db, EvaluationRow, "evaluations", "WHERE sha256 = ? ORDER BY split, id",
                  [sha256])


def put_labels(
    db: Database, evaluation: int, kind: str, names: Sequence[str], n: int, codes: bytes,
    encoding: str,
) -> None:
    """Store the labels of an evaluation's samples, once for all evaluations that have the same."""
    document = text([kind, list(names), n, encoding, hashlib.sha256(codes).hexdigest()])
    key = hashlib.sha256(document.encode()).hexdigest()
    db.execute("INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?, ?, ?)",
               [key, kind, text(list(names)), n, codes, encoding])
    db.execute("INSERT OR IGNORE INTO evaluation_labels VALUES (?, ?)", [evaluation, key])


def labels(db: Database, evaluation: int) -> list[LabelsRow]:
    """Labels of the samples of an evaluation, by kind."""
    return select(
        db, LabelsRow, "labels",
        """WHERE hash IN (SELECT labels FROM evaluation_labels WHERE evaluation = ?)
           ORDER BY kind, hash""", [evaluation])
