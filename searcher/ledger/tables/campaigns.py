"""Campaigns: their specification, state and progress."""

from typing import Any

from sqlite_utils import Database

from searcher.ledger.rows import CampaignRow, first, select, text

LIVE = ("queued", "running")
ENDED = ("done", "failed", "cancelled")
STATES = (*LIVE, "paused", *ENDED)


def get(db: Database, name: str) -> CampaignRow | None:
    return first(db, CampaignRow, "campaigns", "WHERE name = ?", [name])


def history(db: Database, limit: int = 200) -> list[CampaignRow]:
    """Newest first."""
    return select(
        db, CampaignRow, "campaigns", "ORDER BY created_s DESC, name LIMIT ?", [limit]
    )


def live(db: Database, limit: int = 1000) -> list[str]:
    """Names of queued and running campaigns: highest priority first, then oldest."""
    return [row[0] for row in db.execute(
        """SELECT name FROM campaigns WHERE state IN ('queued', 'running')
           ORDER BY priority DESC, created_s, name LIMIT ?""", [limit])]


def create(
    db: Database, name: str, spec: dict[str, Any], now_s: float, priority: int = 0
) -> None:
    db.execute(
        """INSERT INTO campaigns (name, spec, state, created_s, priority)
           VALUES (?, ?, 'queued', ?, ?)""",
        [name, text(spec), now_s, priority],
    )


def set_priority(db: Database, name: str, priority: int) -> None:
    db.execute("UPDATE campaigns SET priority = ? WHERE name = ?", [priority, name])


def progress(db: Database, name: str) -> int:
    """A number that grows with every ended job and every started or ended trial."""
    row = db.execute(
        """SELECT (SELECT count(*) FROM trials WHERE campaign = :name)
                + (SELECT count(*) FROM trials WHERE campaign = :name AND finished_s IS NOT NULL)
                + (SELECT count(*) FROM job_requests r JOIN jobs j ON j.id = r.job
                   WHERE r.campaign = :name AND j.finished_s IS NOT NULL)""",
        {"name": name}).fetchone()
    return int(row[0])


def without_search(db: Database, name: str | None = None) -> None:
    """Queue running campaigns again (or only ``name``): their search process has ended."""
    db.execute(
        """UPDATE campaigns SET state = 'queued'
           WHERE state = 'running' AND (:name IS NULL OR name = :name)""", {"name": name})


MAY_FOLLOW = {
    "queued": (*LIVE, "paused", "failed", "cancelled"), "running": LIVE,
    "paused": (*LIVE, "paused"), "done": (*LIVE, "done"),
    "failed": (*LIVE, "failed"), "cancelled": (*LIVE, "paused", "failed", "cancelled"),
}
"""For each state, the states from which a campaign may enter it. Only ``queued`` may follow a
pause or an end: the last request of a stopping search must not undo the stop."""
WAY_OUT = {
    **dict.fromkeys(("paused", "failed", "cancelled"), "Continue it with `fleetfront resume`."),
    **dict.fromkeys(LIVE, "Wait for it, or cancel it."),
    "done": "Submit it under another name to search again.",
}


def set_state(
    db: Database, name: str, state: str, reason: str | None, now_s: float,
) -> None:
    """The first ``running`` sets ``started_s``."""
    db.execute(
        """UPDATE campaigns SET state = :state, reason = :reason,
             started_s = CASE WHEN :state = 'running' THEN coalesce(started_s, :now)
                              ELSE started_s END,
             ended_s = CASE WHEN :ended THEN :now ELSE NULL END
           WHERE name = :name""",
        {"state": state, "reason": reason, "name": name, "now": now_s, "ended": state in ENDED},
    )
