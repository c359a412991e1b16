"""The OpenAPI document matches the responses to every caller on every route."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from searcher.api.roles import ROUTES
from tests.searcher_tests.api.every_route import CALLERS, Face, face, failures_of, survey
from tests.searcher_tests.dispatch.laboratory import SPEC

EXAMPLES = 4
"""Valid requests per route, and as many invalid ones; ``python -m benchmarks.fuzz`` sends more."""


def test_every_answer_is_one_that_the_document_declares(tmp_path: Path) -> None:
    found = survey(tmp_path, EXAMPLES)
    assert {route for route, _ in found} == {
        f"{method} {path}" for method, path in ROUTES if path != "/v1/openapi.json"}
    assert {who for _, who in found} == set(CALLERS)
    assert all(tried.statuses for tried in found.values())
    assert not {key: list(tried.failures) for key, tried in found.items() if tried.failures}
    accepted = {who for (_, who), tried in found.items() if tried.statuses[200]}
    assert accepted == set(CALLERS)


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Face]:
    with face(tmp_path) as opened:
        yield opened


def test_messages_of_the_wire_are_objects(coordinator: Face) -> None:
    """Encodes messages as agents do; JSON would encode a NamedTuple as an array."""
    for route in ("POST /v1/agents", "POST /v1/lease", "POST /v1/heartbeat",
                  "PUT /v1/results/{job}/{attempt}"):
        content = coordinator.operations[route].definition.raw["requestBody"]["content"]
        schema = content["application/json"]["schema"]
        assert schema["type"] == "object" and set(schema["required"]) <= set(schema["properties"])


def test_the_document_has_the_form_of_scans(coordinator: Face) -> None:
    route = "GET /v1/campaigns/{name}/scans"
    answer = coordinator.answer("GET", f"/v1/campaigns/{SPEC['name']}/scans", {}, "viewer")
    case = coordinator.operations[route].Case(path_parameters={"name": SPEC["name"]})
    assert list(failures_of(case, answer, True, "viewer")) == []
    wrong = answer.json()
    assert wrong["local_cpu"][0]["layers"][0]["levels"][0].pop("loss") > 0
    request, answer = answer.request, httpx.Response(200, json=wrong)
    answer.request, answer.elapsed = request, timedelta(0)
    assert any("violates schema" in one for one in failures_of(case, answer, True, "viewer"))


@pytest.mark.parametrize(("answer", "allowed", "found"), [
    (httpx.Response(418, json={"error": "tea"}), True, "Undocumented status code"),
    (httpx.Response(500, json={"error": "defect"}), True, "500: "),
    (httpx.Response(200, json={"not": "a list"}), True, "violates schema"),
    (httpx.Response(200, html="<p>devices"), True, "Undocumented Content-Type"),
    (httpx.Response(404, json={"detail": "Not Found"}), True, "without an error in words"),
    (httpx.Response(404, json={"error": "no device"}), False, "404 instead of 403"),
    (httpx.Response(403, json={"error": "not for agents"}), False, None),
    (httpx.Response(200, json=[]), True, None)])
def test_what_counts_as_a_failure(
    coordinator: Face, answer: httpx.Response, allowed: bool, found: str | None
) -> None:
    case = coordinator.operations["GET /v1/devices"].Case()
    answer.request, answer.elapsed = httpx.Request("GET", "http://test/v1/devices"), timedelta(0)
    failures = list(failures_of(case, answer, allowed, "agent"))
    assert any(found in failure for failure in failures) if found else not failures, failures
