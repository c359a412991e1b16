"""The HTTP face of a coordinator. Routes run in one event loop, which is the ledger's one writer;
every error is ``{"error": text}``."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from agents import protocol
from searcher.api import agents, campaigns, jobs
from searcher.api.access import OPERATOR
from searcher.api.bells import Bells
from searcher.api.disk import bound_disk
from searcher.api.limits import BodyLimit
from searcher.coordinator import Coordinator
from searcher.devices.enrolment import hashed
from searcher.errors import (
    DroppedError,
    FleetfrontError,
    LedgerError,
    ProtocolError,
    UserError,
)
from searcher.ledger.store import LedgerFull

Started = Callable[[], Awaitable[None]]


def create_app(
    coordinator: Coordinator, operator_token: str, started: Started | None = None
) -> FastAPI:
    """``started`` runs in the event loop before the first request. The app rings, ticks and at
    its end stops ``coordinator``; the ledger stays open."""
    bells = Bells()
    coordinator.ring = bells.ring

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if started is not None:
            await started()
        ticking = asyncio.create_task(_tick(coordinator, bells))
        keeping = asyncio.create_task(bound_disk(coordinator.keeping, bells))
        try:
            yield
        finally:
            bells.close()
            ticking.cancel()
            keeping.cancel()
            coordinator.stop()

    app = FastAPI(
        title="fleetfront", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.coordinator, app.state.bells = coordinator, bells
    app.state.operator_hash = hashed(operator_token)
    app.state.polls = {}
    app.add_middleware(BodyLimit)
    for router in (agents.router, jobs.router, campaigns.router):
        app.include_router(router)
    app.get("/healthz")(_healthy(coordinator))
    app.get("/v1/openapi.json", dependencies=[OPERATOR], include_in_schema=False)(_document(app))
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


async def _tick(coordinator: Coordinator, bells: Bells) -> None:
    while not bells.closing:
        await bells.wait("tick", coordinator.tick())


def _healthy(coordinator: Coordinator) -> Callable[[], Awaitable[dict[str, str]]]:
    async def healthz() -> dict[str, str]:
        """Open to all: whether the coordinator serves and its ledger answers."""
        coordinator.store.db.execute("SELECT value FROM meta").fetchone()
        return {"status": "ok"}

    return healthz


def _document(app: FastAPI) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    return openapi


def _refusal(status: int, message: str, **more: Any) -> JSONResponse:
    return JSONResponse({"error": message, **more}, status)


async def _ours(request: Request, error: Exception) -> Response:
    if isinstance(error, DroppedError):
        return _refusal(error.status, str(error), sha256=error.sha256)
    if isinstance(error, ProtocolError):
        return _refusal(error.status, str(error))
    if isinstance(error, UserError):
        return _refusal(400, str(error))
    if isinstance(error, LedgerError):
        return _refusal(507 if isinstance(error, LedgerFull) else 503, str(error))
    return _refusal(500, str(error))


async def _of_agents(request: Request, error: Exception) -> Response:
    if isinstance(error, protocol.VersionMismatch):
        return _refusal(426, str(error), server=error.server, client=error.client)
    return _refusal(400, str(error))


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _refusal(500, "internal error")
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return _refusal(400, str(error))
    found = [
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()
    ]
    return _refusal(400, "; ".join(found[:5]))


async def _ledger(request: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, sqlite3.IntegrityError) else 503
    return _refusal(status, f"The ledger refused: {error}.")


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    FleetfrontError: _ours,
    protocol.ProtocolError: _of_agents,
    HTTPException: _http,
    RequestValidationError: _invalid,
    sqlite3.Error: _ledger,
}
