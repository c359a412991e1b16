"""The members of a lab: devices and builders with secrets, people and programs with tokens."""

import secrets
from collections.abc import Mapping
from typing import Literal

from searcher.devices import enrolment
from searcher.devices.enrolment import Host, NewAgent
from searcher.errors import ProtocolError
from searcher.ledger.clock import Clock
from searcher.ledger.rows import AgentRow, TokenRow
from searcher.ledger.store import Store
from searcher.ledger.tables import credentials, devices

Member = AgentRow | TokenRow


class Roster:
    """Enrols, recognises and revokes members. Use it from the coordinator's thread."""

    def __init__(self, store: Store, clock: Clock, host: Host) -> None:
        self._store, self._clock, self._host = store, clock, host
        self._of_this_start: dict[str, TokenRow] = {}

    def start(self) -> None:
        """Revoke the builders of an earlier coordinator process, with which they ended."""
        with self._store.atomic() as db:
            credentials.revoke_builders(db, self._clock())

    def invite(self, name: str, role: str, profile: str | None, ttl_s: float) -> tuple[str, float]:
        """A one-time enrolment token, and the time at which it expires."""
        now_s = self._clock()
        with self._store.atomic() as db:
            return enrolment.invite(db, name, role, profile, ttl_s, now_s), now_s + ttl_s

    def enrol(
        self, token: str, name: str, fingerprint: Mapping[str, object],
        capabilities: Mapping[str, object],
    ) -> NewAgent:
        """A new agent, its secret, and the agents it replaces. Raises ProtocolError (403)."""
        with self._store.atomic() as db:
            return enrolment.enrol(
                db, token, name, fingerprint, capabilities, self._host, self._clock()
            )

    def add_builder(self, name: str) -> tuple[str, str]:
        """Identity and secret of a builder that is about to start."""
        with self._store.atomic() as db:
            agent, secret = enrolment.admit(db, name, "builder", self._clock())
        return agent.id, secret

    def revoke(self, agent_id: str) -> None:
        with self._store.atomic() as db:
            credentials.revoke_agent(db, agent_id, self._clock())

    def accept(self, secret: str, role: Literal["operator", "viewer"]) -> None:
        """Recognise ``secret`` until this process ends; it is not stored."""
        self._of_this_start[enrolment.hashed(secret)] = TokenRow(
            "", "this start", role, self._clock(), None, None)

    def create_token(
        self, name: str, role: Literal["operator", "viewer"], ttl_s: float | None
    ) -> tuple[TokenRow, str]:
        """A token and its secret, which is not shown again. ``ttl_s`` None: it never expires."""
        now_s, secret = self._clock(), enrolment.fresh_secret()
        row = TokenRow(secrets.token_hex(6), enrolment.checked_name(name), role, now_s,
                       None if ttl_s is None else now_s + ttl_s, None)
        with self._store.atomic() as db:
            credentials.create_token(db, row, enrolment.hashed(secret))
        return row, secret

    def tokens(self) -> list[tuple[TokenRow, str]]:
        """Newest first, each with its state: active, expired or revoked."""
        now_s = self._clock()
        return [(row, _state_of(row, now_s)) for row in credentials.tokens(self._store.db)]

    def revoke_token(self, token_id: str) -> TokenRow:
        """Revoke a token; its secret is no longer accepted. Raises ProtocolError (404)."""
        with self._store.atomic() as db:
            credentials.revoke_token(db, token_id, self._clock())
            row = credentials.token(db, token_id)
        if row is None:
            raise ProtocolError(
                f"There is no token {token_id[:40]!r}. See `fleetfront token list`.", 404)
        return row

    def recognised(self, secret: str) -> Member | None:
        """The member with this secret, or None. An agent's first use completes its enrolment."""
        key = enrolment.hashed(secret)
        member = (self._of_this_start.get(key)
                  or credentials.agent_by_secret(self._store.db, key)
                  or credentials.token_by_secret(self._store.db, key))
        if isinstance(member, TokenRow):
            return member if _state_of(member, self._clock()) == "active" else None
        if member is not None and member.first_used_s is None:
            with self._store.grouped() as db:
                credentials.agent_used(db, member.id, self._clock())
        return member

    def is_revoked(self, agent: AgentRow) -> bool:
        """Whether another agent replaced ``agent`` since it was recognised."""
        return enrolment.is_revoked(self._store.db, agent)

    def profile_of(self, agent: AgentRow) -> str | None:
        """The profile of its device; None for a builder, and if none was named."""
        return None if agent.device is None else devices.profile(self._store.db, agent.device)


def _state_of(row: TokenRow, now_s: float) -> Literal["active", "expired", "revoked"]:
    if row.revoked_s is not None:
        return "revoked"
    return "expired" if row.expires_s is not None and now_s >= row.expires_s else "active"
