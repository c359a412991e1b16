"""Recipes, builds and artifacts."""

import json
from array import array
from typing import Any

from sqlite_utils import Database

from profiles.number_formats import DEFAULT
from searcher.ledger.rows import ArtifactRow, BuildRow, first, text


def put_recipe(db: Database, recipe_hash: str, steps: list[dict[str, Any]]) -> None:
    db.execute("INSERT OR IGNORE INTO recipes VALUES (?, ?)", [recipe_hash, text(steps)])


def recipe(db: Database, recipe_hash: str) -> list[dict[str, Any]] | None:
    """The steps of a recipe."""
    row = db.execute("SELECT steps FROM recipes WHERE hash = ?", [recipe_hash]).fetchone()
    if row is None:
        return None
    steps: list[dict[str, Any]] = json.loads(row[0])
    return steps


def put(
    db: Database, key: str, task: str, recipe_hash: str, seed: int, fidelity: str, sha256: str,
    file_bytes: int, graph_key: str, report: dict[str, Any], job: int, now_s: float,
) -> None:
    """Insert a build. If its key is known, the new file replaces the old one."""
    db.execute(
        """INSERT INTO builds (key, task, recipe, seed, fidelity, sha256, file_bytes, graph_key,
             report, job, created_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (key) DO UPDATE SET sha256 = excluded.sha256,
             file_bytes = excluded.file_bytes, graph_key = excluded.graph_key,
             report = excluded.report, job = excluded.job""",
        [key, task, recipe_hash, seed, fidelity, sha256, file_bytes, graph_key, text(report), job,
         now_s],
    )


def get(db: Database, key: str) -> BuildRow | None:
    return first(db, BuildRow, "builds", "WHERE key = ?", [key])


def of_file(db: Database, sha256: str) -> BuildRow | None:
    return first(db, BuildRow, "builds", "WHERE sha256 = ? ORDER BY created_s", [sha256])


def recipes_of_file(db: Database, sha256: str) -> list[list[dict[str, Any]]]:
    """The steps of every recipe that was built and gave this file, the first one first."""
    rows = db.execute(
        """SELECT steps FROM builds JOIN recipes ON recipes.hash = builds.recipe
           WHERE sha256 = ? ORDER BY created_s""", [sha256])
    return [json.loads(steps) for steps, in rows]


def macs(db: Database, sha256: str) -> int | None:
    """Multiply-accumulates of a file, counted at its build or at the inspection of the upload."""
    for query in ("SELECT json_extract(report, '$.macs') FROM builds WHERE sha256 = ? LIMIT 1",
                  "SELECT json_extract(inspection, '$.macs') FROM artifacts WHERE sha256 = ?"):
        row = db.execute(query, [sha256]).fetchone()
        if row is not None and row[0] is not None:
            return int(row[0])
    return None


def put_artifact(
    db: Database, sha256: str, file_bytes: int, now_s: float, build_key: str | None = None,
    target: dict[str, Any] | None = None, number_format: str = DEFAULT,
    probe_outputs: list[float] | None = None,
) -> None:
    """Insert a file that is on the disk, or update a known one, which is then no longer dropped.
    Columns that were unknown before, as for a user's own file, are filled in."""
    outputs = None if probe_outputs is None else array("d", probe_outputs).tobytes()
    db.execute(
        """INSERT INTO artifacts (sha256, file_bytes, build_key, target, number_format,
             probe_outputs, created_s) VALUES (?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (sha256) DO UPDATE SET
             number_format = CASE WHEN build_key IS NULL THEN excluded.number_format
                                  ELSE number_format END,
             build_key = coalesce(build_key, excluded.build_key),
             target = coalesce(target, excluded.target),
             origin = CASE WHEN excluded.build_key IS NULL THEN origin ELSE 'build' END,
             probe_outputs = coalesce(probe_outputs, excluded.probe_outputs),
             dropped_s = NULL""",
        [sha256, file_bytes, build_key, None if target is None else text(target), number_format,
         outputs, now_s],
    )


def put_upload(db: Database, sha256: str, file_bytes: int, now_s: float) -> None:
    """Insert an uploaded file. A known file keeps its columns and is no longer dropped."""
    db.execute(
        """INSERT INTO artifacts (sha256, file_bytes, number_format, created_s, origin)
           VALUES (?, ?, ?, ?, 'upload')
           ON CONFLICT (sha256) DO UPDATE SET dropped_s = NULL""",
        [sha256, file_bytes, DEFAULT, now_s],
    )


def put_inspection(db: Database, sha256: str, found: dict[str, Any]) -> None:
    """Store the result of a builder's inspection."""
    db.execute("UPDATE artifacts SET inspection = ? WHERE sha256 = ?", [text(found), sha256])


def artifact(db: Database, sha256: str) -> ArtifactRow | None:
    return first(db, ArtifactRow, "artifacts", "WHERE sha256 = ?", [sha256])


def see_artifact(db: Database, sha256: str, file_bytes: int, now_s: float) -> None:
    """Insert a file of which only the size is known; a known file is unchanged."""
    db.execute(
        """INSERT OR IGNORE INTO artifacts (sha256, file_bytes, number_format, created_s)
           VALUES (?, ?, ?, ?)""", [sha256, file_bytes, DEFAULT, now_s])


def expectation(db: Database, sha256: str) -> tuple[list[float] | None, str]:
    """The host's outputs on the probe input, for the parity check (None if never computed), and
    the number format of the file."""
    row = db.execute(
        "SELECT probe_outputs, number_format FROM artifacts WHERE sha256 = ?", [sha256]).fetchone()
    if row is None or row[0] is None:
        return None, DEFAULT if row is None else str(row[1])
    values = array("d")
    values.frombytes(row[0])
    return values.tolist(), str(row[1])
