"""What one agent is started with."""

from typing import NamedTuple, Optional, Tuple

from agents.coordinator.http import NO_TRUST, Trust
from agents.protocol import DEFAULT_RUNTIME


class AgentError(Exception):
    """The agent cannot go on; the text says why and what to do."""


class Settings(NamedTuple):
    """``spool`` is the agent's own folder; ``token`` is needed for the first start only; jobs for
    other ``runtimes`` are given back."""

    coordinator: str
    name: str
    spool: str
    token: Optional[str] = None
    trust: Trust = NO_TRUST
    once: bool = False
    runtimes: Tuple[str, ...] = (DEFAULT_RUNTIME,)
