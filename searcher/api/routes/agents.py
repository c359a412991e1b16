"""Routes of agents and builders: enrolment, leases, heartbeats, results, artifacts."""

import asyncio
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse

from agents import protocol
from searcher.api.access import TheCoordinator
from searcher.api.http.limits import MOST_RESULT_BYTES, MOST_UNPACKED_BYTES
from searcher.api.http.plain_route import (
    Call,
    Described,
    PlainResponse,
    PlainRoute,
    number,
    parameter,
)
from searcher.api.openapi import body_of, refusals, schema_of
from searcher.api.schemas import LARGEST, LONGEST_POLL_S
from searcher.devices import profile_facts
from searcher.errors import ProtocolError
from searcher.jobs import results
from searcher.ledger.rows import JobRow, text

router = APIRouter(prefix="/v1", tags=["agents"])
Message = TypeVar("Message")


def read(message: type[Message], body: bytes) -> Message:
    """The message in ``body``. Its protocol version is checked before its fields."""
    document = results.document_of(body)
    spoken = document.get("protocol") if isinstance(document, dict) else None
    if isinstance(spoken, int):
        protocol.check_version(spoken)
    return protocol.decode(message, document)


@router.post("/agents", openapi_extra=body_of(protocol.Enrol), responses=refusals(400, 403, 426))
async def enrol(request: Request, coordinator: TheCoordinator) -> JSONResponse:
    """Exchange a one-time token for a secret."""
    message = read(protocol.Enrol, await request.body())
    agent, secret = coordinator.enrol(
        message.token, message.name, message.fingerprint, message.capabilities
    )
    return JSONResponse(protocol.as_json(
        protocol.Enrolled(agent.id, secret, protocol.PROTOCOL_VERSION)))


async def lease(call: Call) -> PlainResponse:
    """The next job, or 204 if there is none within ``wait_s``. A later poll replaces this one."""
    message = read(protocol.LeaseRequest, call.body)
    coordinator, notifications, agent = call.state.coordinator, call.state.notifications, call.agent
    polls: dict[str, object] = call.state.polls
    mine = polls[agent.id] = object()
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + min(max(message.wait_s, 0.0), LONGEST_POLL_S)
    version = ((b"x-agent-sha256", call.state.agent_sha256.encode()),)
    try:
        while polls.get(agent.id) is mine and not notifications.closing:
            job = coordinator.lease(agent, message.kinds)
            if job is not None:
                known = coordinator.roster.profile_of(agent)
                return PlainResponse(
                    _lease(job, coordinator.rules.lease.ttl_s(job.pool), known), 200, version)
            left_s = ends_s - loop.time()
            # A revoked agent must see 401 at its next request, not after the whole poll.
            if left_s <= 0 or coordinator.roster.is_revoked(agent):
                break
            retry_s = coordinator.retry_s(agent)
            await notifications.wait(
                agent.pool, left_s if retry_s is None else min(left_s, retry_s))
            if await call.has_left():
                break
    finally:
        if polls.get(agent.id) is mine:
            del polls[agent.id]
    return PlainResponse(b"", 204, version)


def _lease(job: JobRow, ttl_s: float, profile: str | None) -> bytes:
    # From the ledger rather than from the request: parsing a payload takes as long as the rest.
    deadline_s = round((job.deadline_at_s or 0.0) - (job.leased_s or 0.0) - ttl_s, 3)
    lease = protocol.Lease(job.id, job.kind, job.attempt, job.fence or 0, ttl_s, deadline_s,
                           profile_facts.payload_for(job, profile))
    # The payload is plain JSON from the ledger, without messages to convert.
    return text(lease._asdict()).encode()


async def heartbeat(call: Call) -> PlainResponse:
    """Extend a lease; 409 if it is no longer in force."""
    message = read(protocol.Heartbeat, call.body)
    if not (0 <= message.job <= LARGEST and 0 <= message.fence <= LARGEST):
        raise ProtocolError("job and fence must be from 0 to 2**53.")
    verdict = call.state.coordinator.heartbeat(
        call.agent, message.job, message.fence, message.progress)
    return PlainResponse(protocol.encode(protocol.HeartbeatAnswer(verdict)))


async def put_result(call: Call) -> PlainResponse:
    """Accept a result. The same content may be sent again; another content is refused (409).

    ``X-Content-Sha256`` is the digest of the JSON text, or of the body as sent.
    """
    job, attempt = (number(name, call.path[name]) for name in ("job", "attempt"))
    fence = number("fence", "".join(call.query.get("fence", [])))
    encoding = call.headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    announced = call.headers.get(b"x-content-sha256", b"").decode("latin-1")
    content = results.content_of(call.body, encoding, MOST_UNPACKED_BYTES)
    sha256 = protocol.content_sha256(content)
    if announced != sha256 and announced != protocol.content_sha256(call.body):
        raise ProtocolError(
            f"The body does not have the announced sha256 {announced[:64]!r}. Send it again."
        )
    call.state.coordinator.put_result(call.agent, job, attempt, fence, sha256, content)
    return PlainResponse(protocol.encode(protocol.ResultAnswer(True)))


def _described(request: type, answer: type, *statuses: int, **more: Any) -> Described:
    return Described("agents", schema_of(request), schema_of(answer),
                     (400, 401, 403, *statuses, 413, 503, 507), **more)


ROUTES = (
    PlainRoute("POST", "/v1/lease", lease, _described(
        protocol.LeaseRequest, protocol.Lease, 426, empty=True)),
    PlainRoute("POST", "/v1/heartbeat", heartbeat, _described(
        protocol.Heartbeat, protocol.HeartbeatAnswer, 404, 409)),
    PlainRoute("PUT", "/v1/results/{job}/{attempt}", put_result, _described(
        protocol.ResultEnvelope, protocol.ResultAnswer, 404, 409, 415, parameters=(
            parameter("job", "path"), parameter("attempt", "path"), parameter("fence", "query"),
            parameter("X-Content-Sha256", "header", type="string"),
            {**parameter("Content-Encoding", "header", type="string"), "required": False}),
        most_bytes=MOST_RESULT_BYTES)),
)


_CONTENT = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": _CONTENT},
    206: {"description": "A part of it", "content": _CONTENT},
    416: {"description": "The range lies outside of the file"}}


@router.get(
    "/artifacts/{sha256}", response_class=FileResponse,
    responses={**refusals(404, 410), **_FILE})
async def artifact(coordinator: TheCoordinator, sha256: str) -> FileResponse:
    """The file with this digest; supports range requests."""
    return FileResponse(coordinator.artifact_path(sha256), media_type="application/octet-stream")
