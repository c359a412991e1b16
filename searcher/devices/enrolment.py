"""Enrolment of agents: one-time tokens, secrets stored as hashes, detection of a shared host.

Tokens and secrets are 256 random bits. Therefore a plain SHA-256 protects them, and the time of a
look-up by hash reveals nothing about them.
"""

import hashlib
import hmac
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from searcher.errors import ProtocolError
from searcher.jobs.base import BUILDER, pool_of
from searcher.ledger.rows import AgentRow
from searcher.ledger.tables import credentials, devices

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
ROLES = ("agent", "builder")
DEFAULT_TOKEN_TTL_S = 3600.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Host:
    """The machine of this process. Containers on one kernel share ``boot_id``."""

    hostname: str
    boot_id: str | None

    @classmethod
    def here(cls) -> "Host":
        try:
            boot_id = _BOOT_ID.read_text().strip()
        except OSError:
            boot_id = None
        return cls(socket.gethostname(), boot_id)

    def is_shared_with(self, fingerprint: Mapping[str, object]) -> bool:
        """Whether a device with this fingerprint runs on the cores of the same machine."""
        boot_id = fingerprint.get("boot_id")
        if self.boot_id and isinstance(boot_id, str) and boot_id:
            return boot_id == self.boot_id
        return bool(fingerprint.get("hostname") == self.hostname)


@dataclass(frozen=True)
class NewAgent:
    """A new agent with its secret, which is not shown again. ``replaced``: agents it revokes."""

    agent: AgentRow
    secret: str
    replaced: tuple[AgentRow, ...]


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same_secret(secret: str, stored_hash: str) -> bool:
    """Constant-time comparison of a presented secret with a stored hash."""
    return hmac.compare_digest(hashed(secret), stored_hash)


def checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ProtocolError(
            f"The name {name[:100]!r} must be letters, digits, '_', '.', '-', at most 80, "
            "and start with a letter or digit."
        )
    return name


def fresh_secret() -> str:
    """256 random bits as text that does not start with a dash, so that it can follow an option."""
    while True:
        secret = secrets.token_urlsafe(32)
        if not secret.startswith("-"):
            return secret


def invite(
    db: Database, name: str, role: str, profile: str | None, ttl_s: float, now_s: float
) -> str:
    """A one-time token with which an agent called ``name`` may enrol within ``ttl_s``."""
    if role not in ROLES:
        raise ProtocolError(f"role = {role!r} must be one of {', '.join(ROLES)}.")
    token = fresh_secret()
    credentials.create_enrolment(
        db, hashed(token), checked_name(name), role, profile, now_s + ttl_s, now_s
    )
    return token


def enrol(
    db: Database, token: str, name: str, fingerprint: Mapping[str, object],
    capabilities: Mapping[str, object], host: Host, now_s: float,
) -> NewAgent:
    """Exchange a token for a secret. A device has one agent; a new one replaces the old one.

    The token can be used again until the first request with its secret, because the answer may
    have been lost. Raises ProtocolError (403).
    """
    row = credentials.enrolment(db, hashed(token))
    if row is None or not same_secret(token, row.token_hash):
        raise ProtocolError("The enrolment token is unknown. Ask the operator for a new one.", 403)
    unanswered = row.agent is not None and _never_used(db, row.agent)
    if row.used_s is not None and not unanswered:
        raise ProtocolError(
            f"The enrolment token of {row.name!r} was used already; a token works only "
            "once. Ask the operator for a new one.", 403
        )
    if now_s > row.expires_s:
        raise ProtocolError(
            f"The enrolment token of {row.name!r} expired {now_s - row.expires_s:.0f} s ago. Ask "
            "the operator for a new one.", 403
        )
    if name and name != row.name:
        raise ProtocolError(
            f"The enrolment token is for {row.name!r}, not for {name[:100]!r}.", 403
        )
    replaced = [] if row.agent is None else [credentials.agent(db, row.agent)]
    if row.role == "agent":
        devices.put_device(
            db, row.name, row.profile, dict(fingerprint), dict(capabilities),
            host.is_shared_with(fingerprint), now_s,
        )
        replaced = list(credentials.agents_of_device(db, row.name))
    gone = tuple(agent for agent in replaced if agent is not None)
    for agent in gone:
        credentials.revoke_agent(db, agent.id, now_s)
    agent, secret = admit(db, row.name, row.role, now_s)
    credentials.use_enrolment(db, row.token_hash, agent.id, now_s)
    return NewAgent(agent, secret, gone)


def _never_used(db: Database, agent_id: str) -> bool:
    agent = credentials.agent(db, agent_id)
    return agent is not None and agent.first_used_s is None and agent.revoked_s is None


def admit(db: Database, name: str, role: str, now_s: float) -> tuple[AgentRow, str]:
    """A new agent and its secret. Role ``agent`` needs the device ``name`` in the ledger."""
    secret = fresh_secret()
    device = name if role == "agent" else None
    pool = pool_of(name) if role == "agent" else BUILDER
    agent_id = secrets.token_hex(8)
    credentials.create_agent(db, agent_id, name, role, pool, device, hashed(secret), now_s)
    return AgentRow(agent_id, name, role, pool, device, now_s, None, None), secret


def is_revoked(db: Database, agent: AgentRow) -> bool:
    """Whether ``agent`` was revoked or replaced since it was recognised."""
    current = credentials.agent(db, agent.id)
    return current is None or current.revoked_s is not None
