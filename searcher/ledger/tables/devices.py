"""Devices: what their agents reported, and their state."""

from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from searcher.ledger.rows import DeviceRow, first, select, text


def device(db: Database, name: str) -> DeviceRow | None:
    return first(db, DeviceRow, "devices", "WHERE name = ?", [name])


@dataclass(frozen=True)
class PollState:
    """The columns of a device that every poll of its agent needs."""

    state: str
    shares_host: int
    holds_lease: int


def poll_state(db: Database, name: str, agent_id: str) -> PollState | None:
    """The state of device ``name`` for a poll of ``agent_id``; None when it is unknown."""
    row = db.execute(
        """SELECT state, shares_host, EXISTS (SELECT 1 FROM jobs j
             WHERE j.state = 'leased' AND j.pool = 'device:' || name AND j.holder = ?2)
           FROM devices WHERE name = ?1""", [name, agent_id]).fetchone()
    return None if row is None else PollState(*row)


def device_state(db: Database, name: str) -> str | None:
    row = db.execute("SELECT state FROM devices WHERE name = ?", [name]).fetchone()
    return None if row is None else str(row[0])


def profile(db: Database, name: str) -> str | None:
    """The name of the profile with which the device was enrolled."""
    row = db.execute("SELECT profile FROM devices WHERE name = ?", [name]).fetchone()
    return None if row is None else row[0]


def devices(db: Database, limit: int = 1000) -> list[DeviceRow]:
    return select(db, DeviceRow, "devices", "ORDER BY name LIMIT ?", [limit])


def device_counts(db: Database) -> dict[str, int]:
    return {row[0]: row[1] for row in db.execute(
        "SELECT state, count(*) FROM devices GROUP BY state ORDER BY state")}


def names_on_this_host(db: Database) -> list[str]:
    """Devices that share the coordinator's cores."""
    return [row[0] for row in db.execute(
        "SELECT name FROM devices WHERE shares_host AND state <> 'removed' ORDER BY name")]


def put_device(
    db: Database, name: str, profile: str | None, fingerprint: dict[str, Any],
    capabilities: dict[str, Any], shares_host: bool, now_s: float,
) -> None:
    """Insert a device, or update the description of a known one, which keeps its state. A removed
    device becomes active again."""
    db.execute(
        """INSERT INTO devices (name, profile, fingerprint, capabilities, shares_host, state,
             created_s, last_seen_s) VALUES (?, ?, ?, ?, ?, 'active', ?, ?)
           ON CONFLICT (name) DO UPDATE SET profile = coalesce(excluded.profile, profile),
             fingerprint = excluded.fingerprint, capabilities = excluded.capabilities,
             shares_host = excluded.shares_host, last_seen_s = excluded.last_seen_s,
             strikes = CASE WHEN state = 'removed' THEN 0 ELSE strikes END,
             reason = CASE WHEN state = 'removed' THEN NULL ELSE reason END,
             state = CASE WHEN state = 'removed' THEN 'active' ELSE state END""",
        [name, profile, text(fingerprint), text(capabilities), int(shares_host), now_s, now_s],
    )


def set_capabilities(db: Database, name: str, capabilities: dict[str, Any]) -> None:
    db.execute("UPDATE devices SET capabilities = ? WHERE name = ?", [text(capabilities), name])


def device_seen(db: Database, name: str, now_s: float) -> None:
    db.execute("UPDATE devices SET last_seen_s = ? WHERE name = ?", [now_s, name])


def set_device_state(
    db: Database, name: str, state: str, reason: str | None, strikes: int | None = None
) -> None:
    """``strikes`` None leaves the number unchanged."""
    db.execute(
        """UPDATE devices SET state = ?, reason = ?, strikes = coalesce(?, strikes)
           WHERE name = ?""",
        [state, reason, strikes, name],
    )


def set_strikes(db: Database, name: str, strikes: int) -> None:
    db.execute(
        "UPDATE devices SET strikes = ?1 WHERE name = ?2 AND strikes <> ?1", [strikes, name])
