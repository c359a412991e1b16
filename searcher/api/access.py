"""Who may do what: bearer secrets and the three roles."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from searcher.api.bells import Bells
from searcher.coordinator import Coordinator
from searcher.devices.enrolment import hashed
from searcher.errors import ProtocolError
from searcher.ledger.rows import AgentRow

_bearer = HTTPBearer(auto_error=False)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def coordinator_of(request: Request) -> Coordinator:
    coordinator: Coordinator = request.app.state.coordinator
    return coordinator


def bells_of(request: Request) -> Bells:
    bells: Bells = request.app.state.bells
    return bells


async def _caller(request: Request, credentials: Credentials) -> AgentRow | None:
    """The agent that calls; None for the operator. Raises ProtocolError (401)."""
    if credentials is None:
        raise ProtocolError("Send the secret as \"Authorization: Bearer ...\".", 401)
    presented = credentials.credentials
    if hmac.compare_digest(hashed(presented), request.app.state.operator_hash):
        return None
    agent = coordinator_of(request).roster.recognised(presented)
    if agent is None:
        raise ProtocolError("The secret is unknown or was revoked.", 401)
    return agent


Caller = Annotated[AgentRow | None, Depends(_caller)]


async def _worker(caller: Caller) -> AgentRow:
    """An agent or builder. Raises ProtocolError (403)."""
    if caller is None:
        raise ProtocolError("This is for agents and builders, not for operators.", 403)
    return caller


async def _operator(caller: Caller) -> None:
    """Raises ProtocolError (403)."""
    if caller is not None:
        raise ProtocolError(f"This is for operators, not for the {caller.role} role.", 403)


Worker = Annotated[AgentRow, Depends(_worker)]
OPERATOR = Depends(_operator)
TheCoordinator = Annotated[Coordinator, Depends(coordinator_of)]
TheBells = Annotated[Bells, Depends(bells_of)]
