"""The settings of one agent."""

from typing import NamedTuple, Optional, Tuple

from agents.coordinator.http import NO_TRUST, Trust
from agents.protocol import DEFAULT_RUNTIME


class AgentError(Exception):
    """The agent cannot continue; the text says why and what to do."""


class AgentSettings(NamedTuple):
    """``coordinator`` is its URL, ``name`` the device's, ``spool`` the agent's own folder.
    ``token`` is the one-time token of the first start. Jobs for other ``runtimes`` are refused."""

    coordinator: str
    name: str
    spool: str
    token: Optional[str] = None
    trust: Trust = NO_TRUST
    once: bool = False
    runtimes: Tuple[str, ...] = (DEFAULT_RUNTIME,)
