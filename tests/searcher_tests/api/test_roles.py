"""Permissions of every role on every route of the app."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

from searcher.api.access import RoleCheck, RoleTable
from searcher.api.app import create_app
from searcher.api.roles import ANYONE, OPERATORS, READERS, ROUTES, STRANGER, WORKERS
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import Laboratory

SECRETS = ("no secret", "wrong", "agent", "builder", "operator", "viewer", "start")
"""Callers; ``start`` has the token of coordinator.json."""


class Callers:
    """One app, and a secret of every role."""

    def __init__(self, lab: Laboratory, app: FastAPI, server: LocalServer) -> None:
        self.lab, self.app, self.server = lab, app, server
        self.http = httpx.Client(base_url="http://test", transport=server)
        roster = lab.coordinator.roster
        token, _ = roster.invite("tx2", "agent", None, 60.0)
        self.secrets = {
            "wrong": "wrong", "start": "start",
            "agent": lab.coordinator.enrol(token, "tx2", {}, {})[1],
            "builder": roster.add_builder("b")[1],
            "operator": roster.create_token("anna", "operator", None)[1],
            "viewer": roster.create_token("grafana", "viewer", 60.0)[1],
        }

    def status(self, method: str, path: str, who: str) -> int:
        headers = {} if who == "no secret" else {"Authorization": f"Bearer {self.secrets[who]}"}
        return self.http.request(method, path, headers=headers, json={}).status_code


@pytest.fixture
def callers(tmp_path: Path) -> Iterator[Callers]:
    lab = Laboratory.open(tmp_path)
    app = create_app(lab.coordinator, "start")
    with LocalServer(app) as server:
        yield Callers(lab, app, server)
    lab.store.close()


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    return {(method, str(route.path)) for route in iter_route_contexts(app.routes)
            for method in route.methods or ()}


def test_every_route_has_roles_and_every_role_a_route(callers: Callers) -> None:
    assert routes_of(callers.app) == set(ROUTES)


def test_a_route_without_permissions_is_refused(callers: Callers) -> None:
    callers.app.get("/v1/forgotten")(lambda: {"reached": True})
    assert routes_of(callers.app) != set(ROUTES)
    assert {callers.status("GET", "/v1/forgotten", who) for who in SECRETS} == {401, 404}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_exactly_the_declared_roles_pass(callers: Callers, method: str, path: str) -> None:
    roles = ROUTES[method, path]
    address = re.sub(r"\{\w+\}", "0", path)
    for who in SECRETS:
        status = callers.status(method, address, who)
        role = {"no secret": STRANGER, "wrong": STRANGER, "start": "operator"}.get(who, who)
        if role in roles:
            assert status not in (401, 403, 405), (who, status)
        else:
            assert status == (401 if role == STRANGER else 403), (who, status)


def test_the_permissions_equal_the_documentation() -> None:
    assert {path for (_, path), roles in ROUTES.items() if STRANGER in roles} == {
        "/healthz", "/agent.pyz", "/v1/agents"}
    for (method, path), roles in ROUTES.items():
        assert roles == ANYONE or STRANGER not in roles
        if "viewer" in roles and roles != ANYONE:
            assert method == "GET" and roles >= READERS
        if roles & WORKERS and roles != ANYONE:
            assert path.split("/")[2] in ("lease", "heartbeat", "results", "artifacts")
        assert roles & OPERATORS or roles == WORKERS


def test_no_path_fits_two_templates() -> None:
    """Otherwise the permission check could use another route than the app."""
    for _, path in ROUTES:
        sample = re.sub(r"\{\w+\}", "0", path)
        fitting = {other for _, other in ROUTES if compile_path(other)[0].match(sample)}
        assert fitting == {path}
        assert RoleTable(ROUTES).methods_of(sample)[0] == path


@pytest.mark.parametrize("header", [
    "Bearer wrong", "Bearer ", "Bearer", "Basic b3BlcmF0b3I=", "\xff", "start", "Bearer  "])
def test_strangers_learn_nothing(callers: Callers, header: str) -> None:
    for method, path in (("GET", "/v1/jobs/1"), ("GET", "/v1/nothing"), ("GET", "/"),
                         ("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/v1/lease"),
                         ("PUT", "/v1/trials/1")):
        answer = callers.http.request(method, path, headers={  # type: ignore[arg-type]
            b"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401 and set(answer.json()) == {"error"}
        assert answer.headers["www-authenticate"] == "Bearer"


def test_strangers_are_refused_before_their_body_is_read(callers: Callers) -> None:
    answered: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the route was reached")

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answered.append(message["status"])

    scope = {"type": "http", "path": "/v1/campaigns", "method": "POST", "headers": [],
             "app": callers.app}
    asyncio.run(RoleCheck(app)(scope, receive, send))
    assert answered == [401]


def test_a_token_that_is_revoked_while_it_waits_learns_nothing(callers: Callers) -> None:
    lab, server = callers.lab, callers.server
    row, secret = lab.coordinator.roster.create_token("leaving", "viewer", None)
    job = lab.compress()
    request = callers.http.build_request(
        "GET", f"/v1/jobs/{job.id}?wait_s=50", headers={"Authorization": f"Bearer {secret}"})

    async def revoked_while_waiting() -> httpx.Response:
        poll = asyncio.create_task(server.answer(request))
        notifications = callers.app.state.notifications
        while f"job:{job.id}" not in notifications._waiting:
            await asyncio.sleep(0)
        lab.coordinator.roster.revoke_token(row.id)
        notifications.close()
        return await poll

    answer = server.run(revoked_while_waiting())
    assert answer.status_code == 401 and set(answer.json()) == {"error"}


def test_words_of_a_refusal(callers: Callers) -> None:
    viewer = {"Authorization": f"Bearer {callers.secrets['viewer']}"}
    answer = callers.http.post("/v1/tokens", headers=viewer, content=b"{")
    assert (answer.status_code, answer.json()["error"]) == (
        403, "POST /v1/tokens is for operators, not for the viewer role.")
    answer = callers.http.put("/v1/trials/1", headers=viewer, content=b"{")
    assert (answer.status_code, answer.json()["error"]) == (
        403, "PUT /v1/trials/{trial} is for operators, not for the viewer role.")
    odd = callers.http.patch("/v1/tokens", headers=viewer)
    assert (odd.status_code, odd.headers["allow"]) == (405, "GET, POST")


def test_the_document_names_the_roles(callers: Callers) -> None:
    viewer = {"Authorization": f"Bearer {callers.secrets['viewer']}"}
    paths = callers.http.get("/v1/openapi.json", headers=viewer).json()["paths"]
    shown = {(method.upper(), path): operation["x-roles"]
             for path, operations in paths.items() for method, operation in operations.items()}
    assert shown == {route: sorted(roles) for route, roles in ROUTES.items()
                     if route[1] != "/v1/openapi.json"}
    assert paths["/v1/tokens"]["post"]["security"] == [{"bearer": []}]
    assert "security" not in paths["/agent.pyz"]["get"]


def test_a_ledger_that_cannot_be_written_is_not_the_callers_fault(callers: Callers) -> None:
    """The first request of an agent is recorded; if that fails, the agent must repeat it."""
    callers.lab.store.db.execute("PRAGMA query_only = ON").fetchall()
    assert callers.status("POST", "/v1/lease", "agent") == 503
    callers.lab.store.db.execute("PRAGMA query_only = OFF").fetchall()
    assert callers.status("POST", "/v1/lease", "agent") == 400
