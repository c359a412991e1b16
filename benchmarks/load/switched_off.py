"""A coordinator with one of its optimisations for load disabled.

    FLEETFRONT_LOAD_WITHOUT=NAME python -m benchmarks.load.switched_off --dir DIR ...

Options are those of ``searcher.api.server``. The product has no such switch: before this process
serves, an entry of ``SWITCHES`` replaces the optimised code by a plain implementation. Without the
variable nothing is replaced.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

import searcher.api.app as app
import searcher.api.routes.agents as agent_routes
import searcher.api.routes.campaigns as campaign_routes
import searcher.api.routes.trials as trial_routes
import searcher.api.server as server
import searcher.ledger.store as store
from searcher.api.http.plain_route import Call, PlainResponse, PlainRoute

WITHOUT = "FLEETFRONT_LOAD_WITHOUT"


def _plain_routes() -> None:
    """Serves the six plain routes as FastAPI routes, with its middleware."""
    routes = (*agent_routes.ROUTES, *trial_routes.ROUTES)
    router = APIRouter()
    for route in routes:
        router.add_api_route(route.path, _as_fastapi(route), methods=[route.method])
    _replace(agent_routes, "ROUTES", ())
    _replace(trial_routes, "ROUTES", ())
    include = FastAPI.include_router

    def include_router(self: FastAPI, other: APIRouter, **more: Any) -> None:
        if other is campaign_routes.router:
            include(self, router)
        include(self, other, **more)

    _replace(FastAPI, "include_router", include_router)


def _as_fastapi(route: PlainRoute) -> Callable[..., Any]:
    handler = route._handler

    async def endpoint(request: Request) -> Response:
        query: dict[str, list[str]] = {}
        for key, value in request.query_params.multi_items():
            query.setdefault(key, []).append(value)
        answer: PlainResponse = await handler(Call(
            request.app.state, request.state.caller, dict(request.scope["headers"]),
            await request.body(), dict(request.path_params), query, request.receive))
        return Response(answer.body, answer.status, {
            "content-type": "application/json",
            **{name.decode(): value.decode() for name, value in answer.headers}})

    return endpoint


def _httptools() -> None:
    """Uses h11, which limits the size of a head itself."""
    _replace(server, "http_protocol", lambda: "h11")


def _grouped_commits() -> None:
    """Commits every write separately, before its request continues."""
    _replace(app, "commit_soon", lambda *given: None)


def _page_cache() -> None:
    """Uses SQLite's default page cache of 2 MB."""
    _replace(store, "CACHE_KB", 2000)


def _replace(owner: Any, name: str, value: Any) -> None:
    assert hasattr(owner, name), f"{owner} has no {name}"
    setattr(owner, name, value)


SWITCHES: dict[str, Callable[[], None]] = {
    switch.__name__.strip("_").replace("_", "-"): switch for switch in (
        _plain_routes,
        _httptools,
        _grouped_commits,
        _page_cache,
    )}


if __name__ == "__main__":
    if os.environ.get(WITHOUT):
        SWITCHES[os.environ[WITHOUT]]()
    sys.exit(server.main())
