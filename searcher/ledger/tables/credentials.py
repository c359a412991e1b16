"""Credentials: secrets of agents, one-time enrolment tokens, tokens of people."""

from dataclasses import dataclass

from sqlite_utils import Database

from searcher.ledger.rows import AgentRow, TokenRow, first, select


@dataclass(frozen=True)
class EnrolmentRow:
    """A one-time token, stored as its hash. ``agent`` is the agent that used it."""

    token_hash: str
    name: str
    role: str
    profile: str | None
    created_s: float
    expires_s: float
    used_s: float | None
    agent: str | None


def agent(db: Database, agent_id: str) -> AgentRow | None:
    return first(db, AgentRow, "agents", "WHERE id = ?", [agent_id])


def agent_by_secret(db: Database, secret_hash: str) -> AgentRow | None:
    """The unrevoked agent whose secret has this hash."""
    return first(
        db, AgentRow, "agents", "WHERE secret_hash = ? AND revoked_s IS NULL", [secret_hash]
    )


def agents_of_device(db: Database, name: str) -> list[AgentRow]:
    return select(db, AgentRow, "agents", "WHERE device = ? AND revoked_s IS NULL", [name])


def create_agent(
    db: Database, agent_id: str, name: str, role: str, pool: str, device_name: str | None,
    secret_hash: str, now_s: float,
) -> None:
    db.execute(
        """INSERT INTO agents (id, name, role, pool, device, secret_hash, created_s)
           VALUES (?, ?, ?, ?, ?, ?, ?)""",
        [agent_id, name, role, pool, device_name, secret_hash, now_s],
    )


def agent_used(db: Database, agent_id: str, now_s: float) -> None:
    db.execute("UPDATE agents SET first_used_s = ? WHERE id = ?", [now_s, agent_id])


def revoke_agent(db: Database, agent_id: str, now_s: float) -> None:
    db.execute(
        "UPDATE agents SET revoked_s = ? WHERE id = ? AND revoked_s IS NULL", [now_s, agent_id]
    )


def revoke_builders(db: Database, now_s: float) -> None:
    """Revoke all builders: they end with the coordinator process that started them."""
    db.execute(
        "UPDATE agents SET revoked_s = ? WHERE role = 'builder' AND revoked_s IS NULL", [now_s]
    )


def create_enrolment(
    db: Database, token_hash: str, name: str, role: str, profile: str | None, expires_s: float,
    now_s: float,
) -> None:
    db.execute(
        """INSERT INTO enrolments (token_hash, name, role, profile, created_s, expires_s)
           VALUES (?, ?, ?, ?, ?, ?)""",
        [token_hash, name, role, profile, now_s, expires_s],
    )


def enrolment(db: Database, token_hash: str) -> EnrolmentRow | None:
    return first(db, EnrolmentRow, "enrolments", "WHERE token_hash = ?", [token_hash])


def use_enrolment(db: Database, token_hash: str, agent_id: str, now_s: float) -> None:
    db.execute(
        "UPDATE enrolments SET used_s = ?, agent = ? WHERE token_hash = ?",
        [now_s, agent_id, token_hash],
    )


def create_token(db: Database, row: TokenRow, secret_hash: str) -> None:
    db.execute(
        """INSERT INTO tokens (id, name, role, secret_hash, created_s, expires_s)
           VALUES (?, ?, ?, ?, ?, ?)""",
        [row.id, row.name, row.role, secret_hash, row.created_s, row.expires_s],
    )


def token(db: Database, token_id: str) -> TokenRow | None:
    return first(db, TokenRow, "tokens", "WHERE id = ?", [token_id])


def token_by_secret(db: Database, secret_hash: str) -> TokenRow | None:
    """The unrevoked token whose secret has this hash; it may have expired."""
    return first(
        db, TokenRow, "tokens", "WHERE secret_hash = ? AND revoked_s IS NULL", [secret_hash]
    )


def tokens(db: Database, limit: int = 1000) -> list[TokenRow]:
    """Newest first."""
    return select(db, TokenRow, "tokens", "ORDER BY created_s DESC, id LIMIT ?", [limit])


def revoke_token(db: Database, token_id: str, now_s: float) -> None:
    db.execute(
        "UPDATE tokens SET revoked_s = ? WHERE id = ? AND revoked_s IS NULL", [now_s, token_id]
    )
