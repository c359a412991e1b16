"""Authentication and roles, before every route."""

import re
import sqlite3
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from searcher.api.http.long_poll import Notifications
from searcher.api.roles import ROUTES, STRANGER, not_for
from searcher.dispatch.coordinator import Coordinator
from searcher.errors import LedgerError, ProtocolError
from searcher.ledger.rows import AgentRow, TokenRow
from searcher.ledger.store import LedgerFull

Routes = Mapping[tuple[str, str], frozenset[str]]


class RoleTable:
    """The roles that may use a route, by method and path template."""

    def __init__(self, routes: Routes) -> None:
        self._plain: dict[str, dict[str, frozenset[str]]] = {}
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        for (method, template), roles in routes.items():
            if template not in self._plain:
                self._plain[template] = {}
                if "{" in template:
                    pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
                    self._patterns.append((re.compile(pattern), template))
            self._plain[template][method] = roles

    def methods_of(self, path: str) -> tuple[str, Mapping[str, frozenset[str]]]:
        """The template that matches ``path`` and its roles by method; ``("", {})`` if none does."""
        found = self._plain.get(path)
        if found is not None and "{" not in path:
            return path, found
        for pattern, template in self._patterns:
            if pattern.fullmatch(path):
                return template, self._plain[template]
        return "", {}


class RoleCheck:
    """ASGI middleware. Forwards a request if the caller's role may use its route; otherwise it
    answers 401, 403, 404 or 405 before it reads the body.

    ``request.state`` then holds ``caller`` (an AgentRow, a TokenRow, or None for a stranger) and
    ``route``, the template of the path.
    """

    def __init__(self, app: ASGIApp, routes: Routes = ROUTES) -> None:
        self._app = app
        self._table = RoleTable(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        template, methods = self._table.methods_of(scope["path"])
        state = scope.setdefault("state", {})
        state["route"] = template
        roles = methods.get(scope["method"], frozenset())
        if STRANGER in roles:
            state["caller"] = None
            await self._app(scope, receive, send)
            return
        secret = _secret(scope)
        try:
            caller = None if secret is None else (
                scope["app"].state.coordinator.roster.recognised(secret))
        except (LedgerError, sqlite3.Error) as error:
            refusal = JSONResponse(
                {"error": str(error)}, 507 if isinstance(error, LedgerFull) else 503)
        else:
            if caller is not None and caller.role in roles:
                state["caller"] = caller
                if isinstance(caller, TokenRow) and scope["method"] == "GET":
                    send = _while_recognised(scope, receive, send)
                await self._app(scope, receive, send)
                return
            refusal = _unauthorized(secret) if caller is None else _forbidden(
                f"{scope['method']} {template}", methods, roles, caller.role)
        await refusal(scope, receive, send)


def _secret(scope: Scope) -> str | None:
    """The secret after ``Authorization: Bearer``."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, secret = value.partition(b" ")
            return str(secret.strip().decode("latin-1")) if scheme.lower() == b"bearer" else None
    return None


def _while_recognised(scope: Scope, receive: Receive, send: Send) -> Send:
    """``send``, but with the answer 401 if the token was revoked during a long poll."""
    refused = False

    async def checked(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start":
            secret = _secret(scope) or ""
            if scope["app"].state.coordinator.roster.recognised(secret) is None:
                refused = True
                await _unauthorized(secret)(scope, receive, send)
        if not refused:
            await send(message)

    return checked


def _forbidden(
    what: str, methods: Mapping[str, frozenset[str]], roles: frozenset[str], role: str
) -> JSONResponse:
    if not methods:
        return JSONResponse({"error": "Not Found"}, 404)
    if not roles:
        return JSONResponse(
            {"error": "Method Not Allowed"}, 405, {"Allow": ", ".join(sorted(methods))})
    return JSONResponse({"error": not_for(what, roles, role)}, 403)


def _unauthorized(secret: str | None) -> JSONResponse:
    message = ("The secret expired, is unknown or was revoked." if secret
               else "Send the secret as \"Authorization: Bearer ...\".")
    return JSONResponse({"error": message}, 401, {"WWW-Authenticate": "Bearer"})


def with_roles(document: dict[str, Any], routes: Routes = ROUTES) -> dict[str, Any]:
    """Add the roles that may use it to every operation of the OpenAPI document."""
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"}}
    for (method, template), roles in routes.items():
        operation = document["paths"].get(template, {}).get(method.lower())
        if operation is None:
            continue
        operation["x-roles"] = sorted(roles)
        if STRANGER not in roles:
            operation["security"] = [{"bearer": []}]
    return document


async def coordinator_of(request: Request) -> Coordinator:
    """A coroutine, like all dependencies here: FastAPI calls plain functions in threads."""
    coordinator: Coordinator = request.app.state.coordinator
    return coordinator


async def notifications_of(request: Request) -> Notifications:
    notifications: Notifications = request.app.state.notifications
    return notifications


async def _worker(request: Request) -> AgentRow:
    """The calling agent or builder."""
    caller = request.state.caller
    if not isinstance(caller, AgentRow):
        raise ProtocolError("Only agents and builders may use this route.", 403)
    return caller


Worker = Annotated[AgentRow, Depends(_worker)]
TheCoordinator = Annotated[Coordinator, Depends(coordinator_of)]
TheNotifications = Annotated[Notifications, Depends(notifications_of)]
