"""schemathesis on the coordinator's OpenAPI document: responses per caller and route."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from searcher.api.app import create_app
from searcher.documents import plain
from searcher.ledger.tables import builds, jobs, search_state, trials
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import SPEC, Laboratory, measure_payload, recipe
from tests.searcher_tests.results.test_scans import CLUSTERING
from tests.storage.make_v4 import STATE

CALLERS = ("none", "wrong", "viewer", "agent", "builder", "operator")
"""Callers of each request, in the order of increasing permissions."""
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance,
          response_headers_conformance]
LONGEST_WAIT_S = 0.005


@dataclass
class Tried:
    """Responses to one caller on one route; ``failures`` are distinct messages."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: dict[str, None] = field(default_factory=dict)


class Face:
    """An app on a ledger with one record of each kind, and a secret per role."""

    def __init__(self, lab: Laboratory, server: LocalServer) -> None:
        self._server, roster = server, lab.coordinator.roster
        token, _ = roster.invite("phone", "agent", None, 60.0)
        self._secrets = {
            "wrong": "wrong",
            "agent": lab.coordinator.enrol(token, "phone", {"hostname": "far"}, {})[1],
            "builder": roster.add_builder("b")[1],
            "operator": roster.create_token("anna", "operator", None)[1],
            "viewer": roster.create_token("grafana", "viewer", 60.0)[1],
        }
        self._known = self._filled(lab)
        document = self.answer("GET", "/v1/openapi.json", {}, "operator").json()
        self.schema = schemathesis.openapi.from_dict(document)
        self.operations = {
            f"{operation.method.upper()} {operation.path}": operation
            for operation in (found.ok() for found in self.schema.get_all_operations())}

    def _filled(self, lab: Laboratory) -> dict[tuple[str, str], list[Any]]:
        """Values of existing records, by route and parameter."""
        lab.device()
        self._http = httpx.Client(base_url="http://test", transport=self._server)
        as_operator = {"Authorization": f"Bearer {self._secrets['operator']}"}
        self._http.post("/v1/campaigns", headers=as_operator, json=SPEC).raise_for_status()
        roster = lab.coordinator.roster
        row, _ = roster.create_token("spare", "viewer", None)
        lab.compress(campaign=SPEC["name"])
        self._scan(lab)
        measuring = lab.measure(1, campaign=SPEC["name"])
        file = lab.artifact(b"a model")
        steps = recipe(3)
        self._right = {
            "POST /v1/agents": {
                "protocol": 1, "token": roster.invite("late", "agent", None, 9e5)[0],
                "name": "late", "fingerprint": {}, "capabilities": {}},
            "POST /v1/lease": {"protocol": 1, "wait_s": 0},
            "POST /v1/heartbeat": {"job": 1, "fence": 1, "progress": 0.5, "phase": "device"},
            "POST /v1/jobs": {
                "kind": "measure", "pool": "device:local_cpu",
                "payload": measure_payload(file, file), "campaign": SPEC["name"]},
            "POST /v1/campaigns": {**SPEC, "name": "other"},
            "POST /v1/campaigns/{name}/trials": {
                "device": "local_cpu", "recipe": steps.hash, "steps": steps.as_list()},
            "PUT /v1/campaigns/{name}/search-states/{device}": plain(STATE),
            "PUT /v1/campaigns/{name}/state": {"state": "paused"},
            "PUT /v1/devices/{name}/state": {"state": "draining"},
            "PUT /v1/trials/{trial}": {"state": "complete", "evaluations": [], "values": {}},
        }
        for number in range(50):
            lab.compress(100 + number)
        with lab.store.atomic() as db:
            trials.create(db, SPEC["name"], "local_cpu", _recipe(lab, 0), {}, {}, lab.clock())
        return {
            ("campaigns", "name"): [SPEC["name"]], ("devices", "name"): ["local_cpu"],
            ("campaigns", "device"): ["local_cpu"],
            ("jobs", "job"): [1, measuring.id, 99], ("results", "job"): [1, measuring.id],
            ("results", "attempt"): [1], ("trials", "trial"): [1],
            ("tokens", "token"): [row.id, "nobody"],
            ("artifacts", "sha256"): [file["sha256"], "0" * 64]}

    def _scan(self, lab: Laboratory) -> None:
        """Stores a search with the result of a scan."""
        with lab.store.atomic() as db:
            job = jobs.create(db, "scan", "scan", "builder", SPEC["name"], {}, 0, lab.clock())
            jobs.finish(db, job, "done", lab.clock(), result=plain(CLUSTERING))
            search_state.put(db, SPEC["name"], "local_cpu",
                             replace(STATE, scans={"clustering": job}), lab.clock())

    def answer(
        self, method: str, path: str, parts: dict[str, Any], who: str
    ) -> httpx.Response:
        headers = dict(parts.pop("headers", None) or {})
        if who in self._secrets:
            headers["Authorization"] = f"Bearer {self._secrets[who]}"
        answer = self._http.request(method, path, headers=headers, **parts)
        answer.elapsed = timedelta(0)  # schemathesis requires a value
        return answer

    def roles(self, route: str) -> list[str]:
        return list(self.operations[route].definition.raw["x-roles"])

    def may(self, who: str, route: str) -> bool:
        return {"none": "stranger", "wrong": "stranger"}.get(who, who) in self.roles(route)

    def trial(self, route: str, examples: int) -> dict[str, Tried]:
        """Sends ``examples`` valid and as many invalid requests, each as every caller."""
        tried = {who: Tried() for who in CALLERS}
        operation = self.operations[route]
        if not (operation.body or any(operation.iter_parameters())):
            examples = 1
        for mode in MODES:
            cases = operation.as_strategy(generation_mode=mode)

            @seed(0)
            @settings(max_examples=examples, deadline=None, database=None,
                      phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(cases, st.data())
            def one(case: schemathesis.Case, data: st.DataObject) -> None:
                self._aim(case, data)
                for who in CALLERS:
                    self._judge(case, who, tried[who], self.may(who, route))

            try:
                one()
            except Unsatisfiable:
                continue  # a route without parameters has no invalid request
        return tried

    def _aim(self, case: schemathesis.Case, data: st.DataObject) -> None:
        """Changes a request: mostly existing records, often a partly valid body, no long wait."""
        for name in case.path_parameters or {}:
            known = self._known[case.path.split("/")[2], name]
            if data.draw(st.integers(0, 3)):
                case.path_parameters[name] = data.draw(st.sampled_from(known))
        right = self._right.get(f"{case.method.upper()} {case.path}", {})
        if isinstance(case.body, dict) and right:
            kept = data.draw(st.just(set(right)) | st.sets(st.sampled_from(sorted(right))))
            case.body = {**case.body, **{key: right[key] for key in kept}}
        for place in (case.query, case.body):
            if isinstance(place, dict) and _is_long(place.get("wait_s")):
                place["wait_s"] = LONGEST_WAIT_S
        if case.path.endswith("/finished"):
            case.query["wait_s"] = case.query.get("wait_s", LONGEST_WAIT_S)

    def _judge(self, case: schemathesis.Case, who: str, tried: Tried, allowed: bool) -> None:
        parts = case.as_transport_kwargs(base_url="http://test")
        method, url = parts.pop("method"), parts.pop("url")
        parts.pop("cookies", None)
        request = {key: value for key, value in parts.items() if value is not None}
        if isinstance(request.get("data"), bytes | str):
            request["content"] = request.pop("data")
        answer = self.answer(method, url, request, who)
        tried.statuses[answer.status_code] += 1
        for failure in failures_of(case, answer, allowed, who):
            tried.failures.setdefault(failure)


def _recipe(lab: Laboratory, number: int) -> str:
    with lab.store.atomic() as db:
        builds.put_recipe(db, recipe(number).hash, recipe(number).as_list())
    return recipe(number).hash


def _is_long(value: Any) -> bool:
    return isinstance(value, int | float) and value > LONGEST_WAIT_S


def failures_of(
    case: schemathesis.Case, answer: httpx.Response, allowed: bool, who: str
) -> Iterator[str]:
    """Violations of this response, given the permissions of the caller."""
    status = answer.status_code
    if status >= 400 and answer.request.method != "HEAD" and not _is_refusal(answer):
        yield f"{status} without an error in words: {answer.text[:300]!r}"
    if not allowed:
        expected = 401 if who in ("none", "wrong") else 403
        if status != expected:
            yield f"{status} instead of {expected}: {answer.text[:300]}"
        return
    if status >= 500:
        yield f"{status}: {answer.text[:300]}"
    try:
        case.validate_response(answer, checks=CHECKS)
    except FailureGroup as group:
        for error in group.exceptions:
            yield re.sub(r"\s+", " ", f"{status}: {error}")[:600]


def _is_refusal(answer: httpx.Response) -> bool:
    try:
        return isinstance(answer.json()["error"], str)
    except (ValueError, KeyError, TypeError):
        return False


@contextmanager
def face(folder: Path) -> Iterator[Face]:
    """A new coordinator with its ledger in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    lab = Laboratory.open(folder)
    with LocalServer(create_app(lab.coordinator, "start")) as server:
        yield Face(lab, server)
    lab.store.close()


def survey(folder: Path, examples: int) -> dict[tuple[str, str], Tried]:
    """(route, caller) -> responses to ``examples`` valid and as many invalid requests."""
    with face(folder) as coordinator:
        return {(route, who): tried for route in coordinator.operations
                for who, tried in coordinator.trial(route, examples).items()}
