"""The HTTP API of a coordinator. Routes run in one event loop, the only writer of the ledger. Every
error is answered as ``{"error": text}``."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from agents import protocol
from searcher.api.access import RoleCheck, with_roles
from searcher.api.disk_bound import bound_disk
from searcher.api.http.durable_response import Durable, commit_soon, refusal_of
from searcher.api.http.limits import LARGEST_UPLOAD_BYTES, RequestLimits
from searcher.api.http.long_poll import Notifications
from searcher.api.http.plain_route import Express, add_to_openapi
from searcher.api.openapi import with_refusals
from searcher.api.routes import agents, campaigns, jobs, lab, metrics, trials, uploads
from searcher.devices.agent_archive import agent_archive
from searcher.dispatch.coordinator import TICK_AT_MOST_S, Coordinator
from searcher.errors import (
    DroppedError,
    FleetfrontError,
    LedgerError,
    ProtocolError,
    UserError,
)
from searcher.ledger.tables.counters import EndedJobs

log = logging.getLogger(__name__)
Started = Callable[[], Awaitable[None]]


def create_app(
    coordinator: Coordinator, operator_token: str, started: Started | None = None,
    largest_upload_bytes: int = LARGEST_UPLOAD_BYTES,
) -> FastAPI:
    """The app of ``coordinator``.

    ``started`` runs in the event loop before the first request. The app calls
    ``coordinator.tick``, and ``coordinator.stop`` at its end; the ledger stays open.
    ``state.fingerprint`` is the fingerprint (``sha256:HEX``) that devices pin,
    ``state.advertised`` the URL that they use; both are None until the server sets them.
    """
    notifications = Notifications()
    coordinator.publish = notifications.publish
    requests, ended = metrics.RequestCounts(), EndedJobs(coordinator.store.db)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        commit_soon(coordinator.store, asyncio.get_running_loop(),
                    lambda error: log.error("%s", error))
        app.state.uploads.sweep()
        if started is not None:
            await started()
        ticking = asyncio.create_task(_tick(coordinator, notifications, ended))
        bounding = asyncio.create_task(bound_disk(coordinator.eviction_policy, notifications))
        try:
            yield
        finally:
            notifications.close()
            ticking.cancel()
            bounding.cancel()
            coordinator.stop()
            coordinator.store.opened = None
            coordinator.store.commit()

    app = _App(
        title="fleetfront", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None,
        redirect_slashes=False, telemetry=_NO_TELEMETRY,
    )
    app.state.coordinator, app.state.notifications = coordinator, notifications
    coordinator.roster.accept(operator_token, "operator")
    app.state.polls = {}
    app.state.agent = agent_archive()
    app.state.agent_sha256 = protocol.content_sha256(app.state.agent)
    app.state.fingerprint = app.state.advertised = None
    app.state.registry = metrics.registry_of(coordinator, requests, ended)
    app.state.uploads = uploads.Uploads(coordinator, largest_upload_bytes)
    app.add_middleware(RoleCheck)
    app.add_middleware(RequestLimits, largest_upload_bytes=largest_upload_bytes)
    app.add_middleware(metrics.Timing, requests=requests)
    plain = (*agents.ROUTES, *trials.ROUTES)
    app.front = Durable(Express(app.behind, plain, _answer_to, requests.add), coordinator.store)
    app.router.routes.extend(plain)
    # Searches call these thousands of times, and Starlette tries routes in order.
    for router in (campaigns.router, jobs.router, agents.router, uploads.router, lab.router,
                   metrics.router):
        app.include_router(router)
    app.get("/healthz")(_healthy(coordinator))
    app.get("/v1/openapi.json", include_in_schema=False)(_document(app))
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""Environment variables must not cause data to leave a lab."""


class _App(FastAPI):
    """A FastAPI app behind the ASGI app ``front``."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self.front(scope, receive, send)

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The FastAPI app without ``front``."""
        await super().__call__(scope, receive, send)


async def _tick(coordinator: Coordinator, notifications: Notifications, ended: EndedJobs) -> None:
    while not notifications.closing:
        try:
            due_s = coordinator.tick()
            ended.catch_up()
        except sqlite3.Error as error:
            log.error("the ledger cannot be read: %s", error)
            due_s = TICK_AT_MOST_S
        await notifications.wait("tick", due_s)


def _healthy(coordinator: Coordinator) -> Callable[[], Awaitable[dict[str, str]]]:
    async def healthz() -> dict[str, str]:
        """Open to all: checks that the coordinator serves and can read its ledger."""
        coordinator.store.db.execute("SELECT value FROM meta").fetchone()
        return {"status": "ok"}

    return healthz


def _document(app: FastAPI) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def openapi() -> dict[str, Any]:
        return with_refusals(with_roles(add_to_openapi(app, app.openapi())))

    return openapi


def _refusal(status: int, message: str, **more: Any) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": message, **more}, status, headers)


async def _on_fleetfront_error(request: Request, error: Exception) -> Response:
    if isinstance(error, DroppedError):
        return _refusal(error.status, str(error), sha256=error.sha256)
    if isinstance(error, ProtocolError):
        return _refusal(error.status, str(error))
    if isinstance(error, UserError):
        return _refusal(400, str(error))
    if isinstance(error, LedgerError):
        return refusal_of(error)
    return _refusal(500, str(error))


async def _on_agent_protocol_error(request: Request, error: Exception) -> Response:
    if isinstance(error, protocol.VersionMismatch):
        refusal = _refusal(426, str(error), server=error.server, client=error.client)
        refusal.headers["X-Agent-Sha256"] = request.app.state.agent_sha256
        return refusal
    return _refusal(400, str(error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _refusal(500, "internal error")
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return _refusal(400, str(error))
    found = [
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()
    ]
    return _refusal(400, "; ".join(found[:5]))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return _refusal(400, "The connection closed before the end of the body.")


async def _on_sqlite_error(request: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, sqlite3.IntegrityError) else 503
    return _refusal(status, f"The ledger refused the write: {error}.")


async def _answer_to(scope: Scope, error: Exception) -> Response:
    """The answer to an error of a route. Any other exception is a defect and is raised again."""
    for kind, handler in _HANDLERS.items():
        if isinstance(error, kind):
            return await handler(Request(scope), error)
    raise error


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    FleetfrontError: _on_fleetfront_error,
    protocol.ProtocolError: _on_agent_protocol_error,
    HTTPException: _on_http_exception,
    RequestValidationError: _on_invalid_request,
    ClientDisconnect: _on_disconnect,
    sqlite3.Error: _on_sqlite_error,
}
