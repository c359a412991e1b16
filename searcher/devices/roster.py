"""Who takes part: devices and builders with their secrets, people and programs with tokens.

Secrets are recognised from memory: the coordinator is the ledger's one writer, so what it revokes
it also forgets.
"""

from collections.abc import Mapping
from typing import Any

from searcher.devices import enrolment
from searcher.devices.enrolment import Enrolled, Host
from searcher.ledger import members
from searcher.ledger.clock import Clock
from searcher.ledger.rows import AgentRow
from searcher.ledger.store import Store

MOST_KNOWN = 20_000
"""Secrets kept in memory; beyond that they are looked up again."""


class Roster:
    """Enrols, recognises and revokes; use from the coordinator's thread."""

    def __init__(self, store: Store, clock: Clock, host: Host) -> None:
        self._store, self._clock, self._host = store, clock, host
        self._known: dict[str, AgentRow] = {}
        self._keys: dict[str, str] = {}

    def start(self) -> None:
        """Builders died with the coordinator that started them."""
        with self._store.atomic() as db:
            members.revoke_builders(db, self._clock())
        self._forget(*self._keys)

    def invite(self, name: str, role: str, profile: str | None, ttl_s: float) -> tuple[str, float]:
        """A one-time enrolment token, and when it expires."""
        now_s = self._clock()
        with self._store.atomic() as db:
            return enrolment.invite(db, name, role, profile, ttl_s, now_s), now_s + ttl_s

    def enrol(
        self, token: str, name: str, fingerprint: Mapping[str, Any],
        capabilities: Mapping[str, Any],
    ) -> Enrolled:
        """A new agent, its secret, and whom it replaces. Raises ProtocolError (403)."""
        with self._store.atomic() as db:
            enrolled = enrolment.enrol(
                db, token, name, fingerprint, capabilities, self._host, self._clock()
            )
        self._forget(*(gone.id for gone in enrolled.replaced))
        return enrolled

    def add_builder(self, name: str) -> tuple[str, str]:
        """Identity and secret of a builder that is about to start."""
        with self._store.atomic() as db:
            agent, secret = enrolment.admit(db, name, "builder", self._clock())
        return agent.id, secret

    def revoke(self, agent_id: str) -> None:
        with self._store.atomic() as db:
            members.revoke_agent(db, agent_id, self._clock())
        self._forget(agent_id)

    def recognised(self, secret: str) -> AgentRow | None:
        """Who presents this secret; the first use of it closes the enrolment."""
        key = enrolment.hashed(secret)
        agent = self._known.get(key)
        if agent is not None:
            return agent
        agent = enrolment.recognised(self._store.db, secret)
        if agent is None:
            return None
        if agent.first_used_s is None:
            with self._store.atomic() as db:
                members.agent_used(db, agent.id, self._clock())
        if len(self._known) >= MOST_KNOWN:
            self._forget(*self._keys)
        self._known[key], self._keys[agent.id] = agent, key
        return agent

    def is_revoked(self, agent: AgentRow) -> bool:
        """Whether another took its place since ``agent`` was recognised."""
        return agent.id not in self._keys and enrolment.is_revoked(self._store.db, agent)

    def _forget(self, *agents: str) -> None:
        for agent in agents:
            self._known.pop(self._keys.pop(agent, ""), None)
