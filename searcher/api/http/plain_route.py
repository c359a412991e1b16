"""Routes as plain ASGI, for the hundreds of requests per second of agents and searches.

With routes of FastAPI, the coordinator uses up to 30 % more CPU per cycle at 100 agents and 30 to
60 % more at 1000 connections (``benchmarks.load --mechanisms plain-routes``).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from searcher.api.http.limits import MOST_BYTES, PAUSE_S, refusal_of_head, too_long
from searcher.api.openapi import refusals
from searcher.api.roles import ROUTES, not_for
from searcher.api.schemas import LARGEST
from searcher.errors import ProtocolError
from searcher.ledger.rows import AgentRow, TokenRow

Headers = dict[bytes, bytes]


@dataclass
class Call:
    """One request. ``state`` is that of the app; ``caller`` has a role that may use the route;
    ``body`` is the whole body."""

    state: Any
    caller: AgentRow | TokenRow
    headers: Headers
    body: bytes
    path: dict[str, str]
    query: dict[str, list[str]]
    receive: Receive

    @property
    def agent(self) -> AgentRow:
        """The calling agent or builder; for routes that only these may use."""
        assert isinstance(self.caller, AgentRow)
        return self.caller

    async def has_left(self) -> bool:
        """Whether the caller has closed the connection."""
        try:
            async with asyncio.timeout(0):
                message = await self.receive()
        except TimeoutError:
            return False
        return bool(message["type"] == "http.disconnect")


@dataclass(frozen=True)
class PlainResponse:
    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Call], Awaitable[PlainResponse]]


@dataclass(frozen=True)
class Described:
    """OpenAPI description of a route: schemas of its messages, its parameters and refusals.
    ``empty``: the answer may also be 204."""

    tag: str
    request: Mapping[str, Any] | None
    answer: Mapping[str, Any]
    statuses: tuple[int, ...]
    parameters: tuple[dict[str, Any], ...] = ()
    empty: bool = False
    most_bytes: int = MOST_BYTES


Refusing = Callable[[Scope, Exception], Awaitable[Response]]
Counted = Callable[[str, str, int | None, float], None]
"""Called with (method, route, status, seconds) of every answer."""


class Express:
    """ASGI middleware that dispatches ``routes`` directly, before FastAPI's router and middleware.

    ``refusing`` returns the answer to an error or raises it again. ``counted`` is called for every
    answer. No two routes may share method, second path part and number of path parts.
    """

    def __init__(self, app: ASGIApp, routes: Sequence["PlainRoute"], refusing: Refusing,
                 counted: Counted) -> None:
        self._app, self._refusing, self._counted = app, refusing, counted
        self._routes = {(route.method, route.parts[2], len(route.parts)): route
                        for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._route(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        began_s, status = time.perf_counter(), None
        try:
            status = await route.serve(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - as in any other route
            answer = await self._refusing(scope, error)
            status = answer.status_code
            await answer(scope, receive, send)
        finally:
            self._counted(scope["method"], route.path, status, time.perf_counter() - began_s)

    def _route(self, scope: Scope) -> "PlainRoute | None":
        parts = scope["path"].split("/")
        if len(parts) < 3:
            return None
        route = self._routes.get((scope["method"], parts[2], len(parts)))
        if route is None:
            return None
        given: dict[str, str] = {}
        for own, part in zip(route.parts, parts, strict=True):
            if own.startswith("{"):
                if not part:
                    return None
                given[own[1:-1]] = part
            elif own != part:
                return None
        scope["path_params"] = given
        return route


class PlainRoute(Route):
    """A route that calls ``handler`` if the caller's role may use it (``searcher/api/roles.py``).
    The app handles its errors like those of other routes."""

    def __init__(self, method: str, path: str, handler: Handler, described: Described) -> None:
        self.method, self.parts = method, path.split("/")
        self.described, self._handler = described, handler
        self._roles = ROUTES[method, path]
        self.summary = (handler.__doc__ or "").strip()
        super().__init__(path, self.serve, methods=[method])
        self.methods = {method}  # GET does not imply HEAD
        self.app = self._served

    async def _served(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.serve(scope, receive, send)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer the request. Returns the status of the answer."""
        state = scope["app"].state
        headers: Headers = dict(scope["headers"])
        refusal = refusal_of_head(
            scope, headers.get(b"content-length", b"0"), self.described.most_bytes)
        if refusal is not None:
            await refusal(scope, receive, send)
            return refusal.status_code
        caller = self._caller(state, headers)
        query = scope["query_string"]
        answer = await self._handler(Call(
            state, caller, headers, await _body(receive, self.described.most_bytes),
            scope["path_params"], parse_qs(query.decode("latin-1")) if query else {}, receive))
        if self.method == "GET" and isinstance(caller, TokenRow):
            self._caller(state, headers)  # it may have been revoked during a long poll
        await send({"type": "http.response.start", "status": answer.status, "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer.body)).encode()), *answer.headers]})
        await send({"type": "http.response.body", "body": answer.body})
        return answer.status

    def _caller(self, state: Any, headers: Headers) -> AgentRow | TokenRow:
        """Raises ProtocolError (401, 403)."""
        scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not secret:
            raise ProtocolError("Send the secret as \"Authorization: Bearer ...\".", 401)
        presented = secret.strip().decode("latin-1")
        member: AgentRow | TokenRow | None = state.coordinator.roster.recognised(presented)
        if member is None:
            raise ProtocolError("The secret expired, is unknown or was revoked.", 401)
        if member.role not in self._roles:
            raise ProtocolError(
                not_for(f"{self.method} {self.path}", self._roles, member.role), 403)
        return member


async def _body(receive: Receive, most_bytes: int) -> bytes:
    """The whole body. Raises ProtocolError: 413 for one that is too long, 408 if it stops."""
    pieces: list[bytes] = []
    seen, more = 0, True
    while more:
        try:
            async with asyncio.timeout(PAUSE_S):
                message = await receive()
        except TimeoutError as error:
            raise ProtocolError(f"The body stopped for {PAUSE_S:g} s.", 408) from error
        if message["type"] == "http.disconnect":
            raise ProtocolError("The connection closed before the end of the body.")
        pieces.append(message.get("body", b""))
        seen, more = seen + len(pieces[-1]), message.get("more_body", False)
        if seen > most_bytes:
            raise ProtocolError(too_long(most_bytes), 413)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


_WHOLE_NUMBER = {"type": "integer", "minimum": 0, "maximum": LARGEST}


def number(name: str, text: str) -> int:
    """Raises ProtocolError (400) unless it is a whole number from 0 to 2**53."""
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= LARGEST):
        raise ProtocolError(f"{name} = {text[:40]!r} must be a whole number from 0 to 2**53.")
    return int(text)


def parameter(name: str, place: str, **schema: Any) -> dict[str, Any]:
    """A required parameter of a route; a whole number unless ``schema`` says otherwise."""
    return {"name": name, "in": place, "required": True, "schema": schema or _WHOLE_NUMBER}


def add_to_openapi(app: FastAPI, document: dict[str, Any]) -> dict[str, Any]:
    """Add the plain routes, which FastAPI does not know, to ``document``."""
    for route in app.routes:
        if isinstance(route, PlainRoute):
            document["paths"].setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return document


def _operation(route: PlainRoute) -> dict[str, Any]:
    described = route.described
    body = {} if described.request is None else {"requestBody": {
        "required": True, "content": {"application/json": {"schema": described.request}}}}
    responses: dict[str, Any] = {
        str(status): refusal for status, refusal in refusals(*described.statuses).items()}
    responses["200"] = {"description": "Accepted.", "content": {
        "application/json": {"schema": described.answer}}}
    if described.empty:
        responses["204"] = {"description": "Nothing for now."}
    return {
        "tags": [described.tag], "summary": route.summary.partition("\n")[0],
        "operationId": route.name,
        "parameters": list(described.parameters), "responses": responses, **body,
    }
