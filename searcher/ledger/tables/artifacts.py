"""Queries for the eviction of artifacts: their order, what needs them, which are dropped.

Every query reads a bounded number of rows; a caller pages through all files.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

_RUNS = "t.state = 'running' AND c.state NOT IN ('done', 'cancelled')"
"""Running trials of a paused or failed campaign continue when it resumes."""
_SHA256 = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class FileRow:
    """``row`` increases in the order in which files were first seen."""

    row: int
    sha256: str
    file_bytes: int
    created_s: float
    dropped_s: float | None


@dataclass(frozen=True)
class CompleteTrial:
    """The columns of a complete trial that a front needs. ``own``: its own file was measured."""

    id: int
    device: str
    sha256: str
    values: dict[str, float]
    intervals: dict[str, list[float]]
    constraints: dict[str, float]
    own: bool


def page(db: Database, after: int, limit: int) -> list[FileRow]:
    """The next files after row ``after``, in the order in which they were first seen."""
    return [FileRow(*row) for row in db.execute(
        """SELECT rowid, sha256, file_bytes, created_s, dropped_s FROM artifacts
           WHERE rowid > ? ORDER BY rowid LIMIT ?""", [after, limit])]


def drop(db: Database, files: Iterable[str], now_s: float) -> None:
    """Mark ``files`` as dropped before their content is deleted; their rows stay."""
    db.conn.executemany(
        "UPDATE artifacts SET dropped_s = ? WHERE sha256 = ? AND dropped_s IS NULL",
        [(now_s, sha256) for sha256 in files])


def found_again(db: Database, files: Iterable[str]) -> None:
    db.conn.executemany(
        "UPDATE artifacts SET dropped_s = NULL WHERE sha256 = ?", [(s,) for s in files])


def is_known(db: Database, sha256: str) -> bool:
    """Whether the ledger knows this file, dropped or not."""
    return db.execute("SELECT 1 FROM artifacts WHERE sha256 = ?", [sha256]).fetchone() is not None


def of_work(db: Database, files: Sequence[str], baseline: str, since_s: float) -> set[str]:
    """The subset of ``files`` that was built for a baseline (recipe ``baseline``), or for a trial
    that is running or ended after ``since_s``."""
    marks = ", ".join("?" * len(files))
    rows = db.execute(
        f"""WITH made (sha256, recipe) AS (
              SELECT sha256, recipe FROM builds WHERE sha256 IN ({marks})
              UNION SELECT a.sha256, b.recipe FROM artifacts a JOIN builds b ON b.key = a.build_key
                    WHERE a.sha256 IN ({marks}))
            SELECT DISTINCT sha256 FROM made WHERE made.recipe = ? OR EXISTS (
              SELECT 1 FROM trials t JOIN campaigns c ON c.name = t.campaign
              WHERE t.recipe = made.recipe AND ({_RUNS} OR t.finished_s >= ?))""",
        [*files, *files, baseline, since_s])
    return {row[0] for row in rows}


def builds_in_use(db: Database, keys: Sequence[str], baseline: str) -> set[str]:
    """The subset of ``keys`` that belongs to a baseline or a running trial."""
    marks = ", ".join("?" * len(keys))
    rows = db.execute(
        f"""SELECT b.key FROM builds b WHERE b.key IN ({marks}) AND (b.recipe = ? OR EXISTS (
              SELECT 1 FROM trials t JOIN campaigns c ON c.name = t.campaign
              WHERE t.recipe = b.recipe AND {_RUNS}))""",
        [*keys, baseline])
    return {row[0] for row in rows}


def unfinished_jobs(db: Database) -> list[int]:
    """Ids of all queued and leased jobs."""
    return [row[0] for state in ("queued", "leased") for row in db.execute(
        f"SELECT id FROM jobs WHERE state = '{state}'")]


def named_by_jobs(db: Database, ids: Sequence[int]) -> set[str]:
    """Every sha256 in the payloads of these jobs."""
    rows = db.execute(
        f"SELECT payload FROM jobs WHERE id IN ({', '.join('?' * len(ids))})", list(ids))
    return {sha256 for row in rows for sha256 in _SHA256.findall(row[0])}


def named_by_campaigns(
    db: Database, after: str, limit: int
) -> tuple[set[str], list[tuple[str, dict[str, Any]]]]:
    """All sha256 in the specifications and search states of the next campaigns by name, and the
    names and specifications of these campaigns."""
    rows = db.execute(
        """SELECT c.name, c.spec, coalesce((SELECT group_concat(s.state) FROM search_state s
             WHERE s.campaign = c.name), '')
           FROM campaigns c WHERE c.name > ? ORDER BY c.name LIMIT ?""",
        [after, limit]).fetchall()
    found = {s for row in rows for s in _SHA256.findall(row[1]) + _SHA256.findall(row[2])}
    return found, [(row[0], json.loads(row[1])) for row in rows]


def complete_trials(
    db: Database, campaign: str, after: int, limit: int
) -> list[CompleteTrial]:
    """The next complete trials of a campaign that have a file, by id."""
    rows = db.execute(
        """SELECT t.id, t.device, t.sha256, t."values", t.intervals, t.constraints,
             m.sha256 = t.sha256
           FROM trials t LEFT JOIN measurements m ON m.id = t.measurement
           WHERE t.campaign = ? AND t.state = 'complete' AND t.id > ? AND t.sha256 IS NOT NULL
           ORDER BY t.id LIMIT ?""", [campaign, after, limit])
    return [
        CompleteTrial(id_, device, sha256, json.loads(values or "{}"),
                      json.loads(intervals or "{}"), json.loads(constraints or "{}"), bool(own))
        for id_, device, sha256, values, intervals, constraints, own in rows]
