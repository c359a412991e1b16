"""The agents' wire: enrolment, leases, heartbeats, results, artifacts (agents/protocol.py)."""

import asyncio
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse

from agents import protocol
from searcher.api.access import TheCoordinator
from searcher.api.http.limits import MOST_RESULT_BYTES, MOST_UNPACKED_BYTES
from searcher.api.http.plain_route import Answer, Call, Described, PlainRoute, number, parameter
from searcher.api.openapi import body_of, refusals, schema_of
from searcher.api.schemas import LARGEST, LONGEST_POLL_S
from searcher.devices import profile_facts
from searcher.errors import ProtocolError
from searcher.jobs import requests, results
from searcher.ledger.rows import JobRow, text

router = APIRouter(prefix="/v1", tags=["agents"])
Message = TypeVar("Message")


def read(message: type[Message], body: bytes) -> Message:
    """The message in ``body``, its protocol version checked before its fields."""
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


async def lease(call: Call) -> Answer:
    """The next job, or 204 when none came within ``wait_s``. A later poll replaces this one."""
    message = read(protocol.LeaseRequest, call.body)
    coordinator, bells, agent = call.state.coordinator, call.state.bells, call.agent
    polls: dict[str, object] = call.state.polls
    mine = polls[agent.id] = object()
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + min(max(message.wait_s, 0.0), LONGEST_POLL_S)
    version = ((b"x-agent-sha256", call.state.agent_sha256.encode()),)
    try:
        while polls.get(agent.id) is mine and not bells.closing:
            job = coordinator.lease(agent, message.kinds)
            if job is not None:
                known = coordinator.roster.profile_of(agent)
                return Answer(
                    _lease(job, coordinator.rules.lease.ttl_s(job.pool), known), 200, version)
            left_s = ends_s - loop.time()
            # Who was removed meanwhile learns it with the next request, not after this poll.
            if left_s <= 0 or coordinator.roster.is_revoked(agent):
                break
            retry_s = coordinator.retry_s(agent)
            await bells.wait(agent.pool, left_s if retry_s is None else min(left_s, retry_s))
            if await call.has_left():
                break
    finally:
        if polls.get(agent.id) is mine:
            del polls[agent.id]
    return Answer(b"", 204, version)


def _lease(job: JobRow, ttl_s: float, profile: str | None) -> bytes:
    lease = protocol.Lease(job.id, job.kind, job.attempt, job.fence or 0, ttl_s,
                           requests.deadline_s(job.kind, job.payload),
                           profile_facts.payload_for(job, profile))
    # The payload is plain JSON out of the ledger: nothing in it is a message to be turned.
    return text(lease._asdict()).encode()


async def heartbeat(call: Call) -> Answer:
    """Prolong a lease; 409 when it is not in force any more."""
    message = read(protocol.Heartbeat, call.body)
    if not (0 <= message.job <= LARGEST and 0 <= message.fence <= LARGEST):
        raise ProtocolError("job and fence are never negative and below 2**53.")
    verdict = call.state.coordinator.heartbeat(
        call.agent, message.job, message.fence, message.progress)
    return Answer(protocol.encode(protocol.HeartbeatAnswer(verdict)))


async def put_result(call: Call) -> Answer:
    """Accept a result once; the same content again is accepted again, another is refused (409).

    ``X-Content-Sha256`` is of the JSON text, or of the body as sent.
    """
    job, attempt = (number(name, call.path[name]) for name in ("job", "attempt"))
    fence = number("fence", "".join(call.query.get("fence", [])))
    encoding = call.headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    announced = call.headers.get(b"x-content-sha256", b"").decode("latin-1")
    content = results.content_of(call.body, encoding, MOST_UNPACKED_BYTES)
    sha256 = protocol.content_sha256(content)
    if announced != sha256 and announced != protocol.content_sha256(call.body):
        raise ProtocolError(
            f"The body does not have the announced sha256 {announced[:64]!r}: send it again."
        )
    call.state.coordinator.put_result(call.agent, job, attempt, fence, sha256, content)
    return Answer(protocol.encode(protocol.ResultAnswer(True)))


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
    """The file with this digest; range requests are honoured."""
    return FileResponse(coordinator.artifact_path(sha256), media_type="application/octet-stream")
