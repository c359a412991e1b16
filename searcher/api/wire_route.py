"""Routes of the agents' wire, as plain ASGI: thousands of agents poll, beat and report, and the
machinery of a FastAPI route alone would cost more than all that these do."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agents import protocol
from searcher.errors import ProtocolError
from searcher.ledger.rows import AgentRow

Headers = dict[bytes, bytes]


@dataclass
class Call:
    """One request: ``state`` is the app's, ``agent`` who calls, ``body`` all of its body."""

    state: Any
    agent: AgentRow
    headers: Headers
    body: bytes
    path: dict[str, str]
    query: dict[str, list[str]]
    receive: Receive

    async def has_left(self) -> bool:
        """Whether the caller has closed the connection meanwhile."""
        try:
            async with asyncio.timeout(0):
                message = await self.receive()
        except TimeoutError:
            return False
        return bool(message["type"] == "http.disconnect")


@dataclass(frozen=True)
class Answer:
    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True)
class Described:
    """What OpenAPI says of a route: its messages, parameters and refusals."""

    request: type
    answer: type
    statuses: tuple[int, ...]
    parameters: tuple[dict[str, Any], ...] = ()
    empty: bool = field(default=False)


class WireRoute(Route):
    """``handler`` under a worker's secret. Errors go to the app's handlers like any other's."""

    def __init__(self, method: str, path: str, handler: Handler, described: Described) -> None:
        self.described, self._handler = described, handler
        self.summary = (handler.__doc__ or "").strip()
        super().__init__(path, self._serve, methods=[method])
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["app"].state
        headers: Headers = dict(scope["headers"])
        agent = _worker(state, headers)
        query = scope["query_string"]
        answer = await self._handler(Call(
            state, agent, headers, await _body(receive), scope["path_params"],
            parse_qs(query.decode("latin-1")) if query else {}, receive))
        await send({"type": "http.response.start", "status": answer.status, "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer.body)).encode()), *answer.headers]})
        await send({"type": "http.response.body", "body": answer.body})


def _worker(state: Any, headers: Headers) -> AgentRow:
    """The agent or builder that calls. Raises ProtocolError (401, 403)."""
    scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not secret:
        raise ProtocolError("Send the secret as \"Authorization: Bearer ...\".", 401)
    presented = secret.strip().decode("latin-1")
    agent: AgentRow | None = state.coordinator.roster.recognised(presented)
    if agent is not None:
        return agent
    if state.knows_person(presented):
        raise ProtocolError("This is for agents and builders, not for people.", 403)
    raise ProtocolError("The secret is unknown or was revoked.", 401)


async def _body(receive: Receive) -> bytes:
    message = await receive()
    if not message.get("more_body", False):
        return message.get("body", b"")
    pieces = [message.get("body", b"")]
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProtocolError("The connection broke within the body.")
        pieces.append(message.get("body", b""))
    return b"".join(pieces)


def add_to_openapi(app: FastAPI, document: dict[str, Any]) -> dict[str, Any]:
    """``document`` with the wire's routes, which FastAPI does not see."""
    for route in app.routes:
        if isinstance(route, WireRoute):
            method = next(m for m in sorted(route.methods or ()) if m != "HEAD").lower()
            document["paths"].setdefault(route.path, {})[method] = _operation(route)
    return document


def _operation(route: WireRoute) -> dict[str, Any]:
    described = route.described
    refusal = {"content": {"application/json": {"schema": _schema(protocol.ErrorAnswer)}}}
    responses: dict[str, Any] = {
        str(status): {"description": "Refused.", **refusal} for status in described.statuses}
    responses["200"] = {"description": "Accepted.", "content": {
        "application/json": {"schema": _schema(described.answer)}}}
    if described.empty:
        responses["204"] = {"description": "Nothing for now."}
    return {
        "tags": ["agents"], "summary": route.summary.partition("\n")[0],
        "operationId": route.name, "security": [{"HTTPBearer": []}],
        "parameters": list(described.parameters), "responses": responses,
        "requestBody": {"required": True, "content": {
            "application/json": {"schema": _schema(described.request)}}},
    }


def _schema(message: type) -> dict[str, Any]:
    schema = TypeAdapter(message).json_schema()
    # Referenced definitions would point outside the operation: they are written where they stand.
    return dict(_inlined(schema, schema.get("$defs", {})))


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, dict):
        if "$ref" in part:
            return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
        return {key: _inlined(value, definitions) for key, value in part.items() if key != "$defs"}
    if isinstance(part, list):
        return [_inlined(value, definitions) for value in part]
    return part
