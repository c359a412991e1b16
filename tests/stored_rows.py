"""Queries of the ledger that tests need and the program does not."""

from sqlite_utils import Database

from searcher.ledger.rows import BuildRow, MeasurementRow, select


def builds_of_recipe(db: Database, recipe_hash: str) -> list[BuildRow]:
    return select(db, BuildRow, "builds", "WHERE recipe = ? ORDER BY created_s", [recipe_hash])


def measurements_of_job(db: Database, job: int) -> list[MeasurementRow]:
    return select(db, MeasurementRow, "measurements", "WHERE job = ? ORDER BY id", [job])


def is_dropped(db: Database, sha256: str) -> bool:
    row = db.execute("SELECT dropped_s FROM artifacts WHERE sha256 = ?", [sha256]).fetchone()
    return row is not None and row[0] is not None
