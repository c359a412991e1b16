"""Spans: when each job ran. They show that no measurement overlapped a build."""

from sqlite_utils import Database

from searcher.ledger.rows import SpanRow, select


def start(
    db: Database, campaign: str | None, kind: str, pool: str, job: int, now_s: float
) -> None:
    db.execute(
        "INSERT INTO spans (campaign, kind, pool, job, start_s) VALUES (?, ?, ?, ?, ?)",
        [campaign, kind, pool, job, now_s],
    )


def end_of_job(db: Database, job: int, now_s: float) -> None:
    db.execute(
        "UPDATE spans SET end_s = max(start_s, ?) WHERE job = ? AND end_s IS NULL", [now_s, job]
    )


def end_of_pool(db: Database, pool: str, now_s: float) -> None:
    """End all open spans of ``pool``, whose holders were stopped at ``now_s``."""
    db.execute(
        "UPDATE spans SET end_s = max(start_s, ?) WHERE end_s IS NULL AND pool = ?", [now_s, pool]
    )


def still_open(db: Database, limit: int = 10_000) -> list[SpanRow]:
    return select(db, SpanRow, "spans", "WHERE end_s IS NULL ORDER BY job LIMIT ?", [limit])


def history(db: Database, campaign: str | None = None, limit: int = 100_000) -> list[SpanRow]:
    """Spans of one campaign, or of all campaigns, sorted by start."""
    if campaign is None:
        return select(db, SpanRow, "spans", "ORDER BY start_s, id LIMIT ?", [limit])
    return select(
        db, SpanRow, "spans", "WHERE campaign = ? ORDER BY start_s, id LIMIT ?", [campaign, limit]
    )
