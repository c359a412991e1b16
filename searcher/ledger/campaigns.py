"""Campaigns: what was asked for, and how far it is."""

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


def create(
    db: Database, name: str, spec: dict[str, Any], now_s: float, priority: int = 0
) -> None:
    db.execute(
        """INSERT INTO campaigns (name, spec, state, created_s, priority)
           VALUES (?, ?, 'queued', ?, ?)""",
        [name, text(spec), now_s, priority],
    )


def set_state(
    db: Database, name: str, state: str, reason: str | None,
    baseline: dict[str, Any] | None, now_s: float,
) -> None:
    """``baseline`` replaces the stored one unless None; the first ``running`` sets the start."""
    db.execute(
        """UPDATE campaigns SET state = :state, reason = :reason,
             baseline = coalesce(:baseline, baseline),
             started_s = CASE WHEN :state = 'running' THEN coalesce(started_s, :now)
                              ELSE started_s END,
             ended_s = CASE WHEN :ended THEN :now ELSE NULL END
           WHERE name = :name""",
        {"state": state, "reason": reason, "name": name, "now": now_s, "ended": state in ENDED,
         "baseline": None if baseline is None else text(baseline)},
    )
