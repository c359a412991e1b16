"""The agents' wire: enrolment, leases, heartbeats, results, artifacts (agents/protocol.py)."""

import asyncio
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from agents import protocol
from searcher.api.access import TheBells, TheCoordinator, Worker
from searcher.api.limits import MOST_UNPACKED_BYTES
from searcher.api.schemas import LARGEST, Number, body_of
from searcher.devices import payloads, wire
from searcher.errors import ProtocolError
from searcher.ledger.rows import JobRow

LONGEST_POLL_S = 50.0

router = APIRouter(prefix="/v1", tags=["agents"])
Message = TypeVar("Message")


async def _read(request: Request, message: type[Message]) -> Message:
    """The message in the body, its protocol version checked before its fields."""
    document = wire.document_of(await request.body())
    spoken = document.get("protocol") if isinstance(document, dict) else None
    if isinstance(spoken, int):
        protocol.check_version(spoken)
    return protocol.decode(message, document)


def _answer(message: Any) -> JSONResponse:
    return JSONResponse(protocol.as_json(message))


@router.post("/agents", openapi_extra=body_of(protocol.Enrol))
async def enrol(request: Request, coordinator: TheCoordinator) -> JSONResponse:
    """Exchange a one-time token for a secret."""
    message = await _read(request, protocol.Enrol)
    agent, secret = coordinator.enrol(
        message.token, message.name, message.fingerprint, message.capabilities
    )
    return _answer(protocol.Enrolled(agent.id, secret, protocol.PROTOCOL_VERSION))


@router.post("/lease", openapi_extra=body_of(protocol.LeaseRequest))
async def lease(
    request: Request, coordinator: TheCoordinator, bells: TheBells, agent: Worker
) -> Response:
    """The next job, or 204 when none came within ``wait_s``. A later poll replaces this one."""
    message = await _read(request, protocol.LeaseRequest)
    polls: dict[str, object] = request.app.state.polls
    mine = polls[agent.id] = object()
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + min(max(message.wait_s, 0.0), LONGEST_POLL_S)
    try:
        while polls.get(agent.id) is mine:
            job = coordinator.lease(agent)
            if job is not None:
                return _answer(_lease(job, coordinator.rules.lease.ttl_s(job.pool)))
            left_s = ends_s - loop.time()
            if left_s <= 0 or bells.closing:
                break
            retry_s = coordinator.retry_s(agent)
            await bells.wait(agent.pool, left_s if retry_s is None else min(left_s, retry_s))
            if await request.is_disconnected():
                break
    finally:
        if polls.get(agent.id) is mine:
            del polls[agent.id]
    return Response(status_code=204)


def _lease(job: JobRow, ttl_s: float) -> protocol.Lease:
    return protocol.Lease(
        job.id, job.kind, job.attempt, job.fence or 0, ttl_s,
        payloads.deadline_s(job.kind, job.payload), job.payload,
    )


@router.post("/heartbeat", openapi_extra=body_of(protocol.Heartbeat))
async def heartbeat(request: Request, coordinator: TheCoordinator, agent: Worker) -> JSONResponse:
    """Prolong a lease; 409 when it is not in force any more."""
    message = await _read(request, protocol.Heartbeat)
    if not (0 <= message.job <= LARGEST and 0 <= message.fence <= LARGEST):
        raise ProtocolError("job and fence are never negative and below 2**53.")
    return _answer(protocol.HeartbeatAnswer(
        coordinator.heartbeat(agent, message.job, message.fence, message.progress)))


@router.put("/results/{job}/{attempt}", openapi_extra=body_of(protocol.ResultEnvelope))
async def put_result(
    request: Request, coordinator: TheCoordinator, agent: Worker, job: Number, attempt: Number,
    fence: Annotated[int, Query(ge=0, le=LARGEST)],
    x_content_sha256: Annotated[str, Header()], content_encoding: Annotated[str, Header()] = "",
) -> JSONResponse:
    """Accept a result once; the same content again is accepted again, another is refused (409).

    ``X-Content-Sha256`` is of the JSON text, or of the body as sent.
    """
    body = await request.body()
    content = wire.content_of(body, content_encoding.strip().lower(), MOST_UNPACKED_BYTES)
    sha256 = protocol.content_sha256(content)
    if x_content_sha256 not in (sha256, protocol.content_sha256(body)):
        raise ProtocolError(
            f"The body does not have the announced sha256 {x_content_sha256[:64]!r}: send it again."
        )
    coordinator.put_result(agent, job, attempt, fence, sha256, content)
    return _answer(protocol.ResultAnswer(True))


@router.get("/artifacts/{sha256}")
async def artifact(coordinator: TheCoordinator, sha256: str) -> FileResponse:
    """The file with this digest; range requests are honoured."""
    return FileResponse(coordinator.artifact_path(sha256), media_type="application/octet-stream")
