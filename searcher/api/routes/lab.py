"""Routes of the lab: device states, enrolments, tokens, and the agent for new devices."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from searcher.api.access import TheCoordinator
from searcher.api.openapi import refusals
from searcher.api.schemas import DeviceState, EnrolmentRequest, Name, TokenRequest
from searcher.devices import health
from searcher.jobs.base import device_of, pool_of
from searcher.ledger.tables import devices as device_table
from searcher.ledger.tables import jobs

router = APIRouter(tags=["lab"])


@router.get("/agent.pyz", response_class=Response)
async def agent(request: Request) -> Response:
    """Open to all: the agent as one file for Python 3.6 and later."""
    state = request.app.state
    return Response(
        state.agent, media_type="application/octet-stream",
        headers={"X-Agent-Sha256": state.agent_sha256})


@router.get("/v1/devices")
async def devices(coordinator: TheCoordinator) -> list[dict[str, Any]]:
    """Devices by name. ``job`` is the current job; a draining device without one is ``drained``."""
    db = coordinator.store.db
    working = {device_of(job.pool): job for job in jobs.leased(db)}
    return [health.described(row, working.get(row.name)) for row in device_table.devices(db)]


@router.put("/v1/devices/{name}/state", responses=refusals(404, 409))
async def set_device_state(
    coordinator: TheCoordinator, name: Name, body: DeviceState
) -> dict[str, Any]:
    """Drain, quarantine, release (``active``) or remove a device.

    The agent of a removed device is revoked and its jobs fail; a new enrolment adds it again.
    """
    device = coordinator.set_device_state(name, body.state, body.reason)
    working = jobs.leased(coordinator.store.db, pool_of(name), limit=1)
    return health.described(device, working[0] if working else None)


@router.post("/v1/enrolments")
async def invite(
    request: Request, coordinator: TheCoordinator, body: EnrolmentRequest
) -> dict[str, Any]:
    """Create a one-time token, which is not shown again; also returns URL and digests."""
    token, expires_s = coordinator.roster.invite(body.name, body.role, body.profile, body.ttl_s)
    state = request.app.state
    return {"name": body.name, "role": body.role, "token": token, "expires_s": expires_s,
            "agent_sha256": state.agent_sha256, "fingerprint": state.fingerprint,
            "advertised": state.advertised}


@router.get("/v1/tokens")
async def tokens(coordinator: TheCoordinator) -> list[dict[str, Any]]:
    """All tokens, newest first; ``state`` is active, expired or revoked."""
    return [{**asdict(row), "state": state} for row, state in coordinator.roster.tokens()]


@router.post("/v1/tokens")
async def create_token(coordinator: TheCoordinator, body: TokenRequest) -> dict[str, Any]:
    """Create a token for a person or program; its secret is not shown again."""
    row, secret = coordinator.roster.create_token(body.name, body.role, body.ttl_s)
    return {**asdict(row), "token": secret}


@router.delete("/v1/tokens/{token}", responses=refusals(404))
async def revoke_token(coordinator: TheCoordinator, token: str) -> dict[str, Any]:
    """Revoke a token; its secret is no longer accepted."""
    return asdict(coordinator.roster.revoke_token(token))
