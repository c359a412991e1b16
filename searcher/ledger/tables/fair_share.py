"""Fair share: seconds of leases that each campaign has used of each pool (builders, a device).

Among live campaigns of equal priority, the one with the least use is served first.
"""

from sqlite_utils import Database

from searcher.ledger.tables.campaigns import LIVE

_LIVE = ", ".join(f"'{state}'" for state in LIVE)


def in_turn(db: Database, pool: str) -> list[tuple[str, int]]:
    """(name, priority) of the live campaigns, in the order in which ``pool`` serves them."""
    return [(row[0], row[1]) for row in db.execute(
        f"""SELECT c.name, c.priority FROM campaigns c
            LEFT JOIN shares s ON s.campaign = c.name AND s.pool = ?
            WHERE c.state IN ({_LIVE})
            ORDER BY c.priority DESC, coalesce(s.used_s, 0), c.created_s, c.name""", [pool])]


def charge(db: Database, campaign: str, pool: str, used_s: float) -> None:
    db.execute(
        """INSERT INTO shares VALUES (?, ?, ?)
           ON CONFLICT (campaign, pool) DO UPDATE SET used_s = used_s + excluded.used_s""",
        [campaign, pool, max(used_s, 0.0)],
    )


def enter(db: Database, campaign: str) -> None:
    """Start a campaign at the least use of any live one, so that it does not catch up."""
    db.execute(
        f"""INSERT INTO shares
            SELECT ?1, s.pool, min(s.used_s) FROM shares s JOIN campaigns c ON c.name = s.campaign
            WHERE c.state IN ({_LIVE}) AND c.name <> ?1 GROUP BY s.pool
            ON CONFLICT (campaign, pool) DO UPDATE SET used_s = max(used_s, excluded.used_s)""",
        [campaign],
    )
