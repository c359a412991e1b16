"""The agents' wire over HTTP: a real client, a real ledger, no network."""

import asyncio
import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from agents import protocol
from searcher.api.app import create_app
from searcher.api.http.limits import MOST_BYTES
from searcher.statistics.sample_labels import LARGEST_LABELS_BYTES, MOST_NAMES
from searcher.statistics.score_codec import LARGEST_SCORES_BYTES, pack
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import (
    Laboratory,
    build_payload,
    build_result,
    envelope,
)

OPERATOR = {"Authorization": "Bearer operator"}


class Wire:
    """One HTTP client; ``agent`` and ``builder`` are headers of those roles."""

    def __init__(self, lab: Laboratory, server: LocalServer) -> None:
        self.lab, self.server = lab, server
        self.http = httpx.Client(base_url="http://test", transport=server)
        self.builder = {"Authorization": f"Bearer {lab.coordinator.roster.add_builder('b')[1]}"}

    def enrol(self, name: str = "local_cpu") -> dict[str, str]:
        token = self.http.post(
            "/v1/enrolments", json={"name": name}, headers=OPERATOR).json()["token"]
        answer = self.http.post("/v1/agents", json=enrolment(token, name))
        return {"Authorization": f"Bearer {answer.json()['secret']}"}

    def submit(self, number: int = 0) -> dict[str, Any]:
        answer = self.http.post("/v1/jobs", headers=OPERATOR, json={
            "kind": "compress", "pool": "builder", "payload": build_payload(number)})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def lease(self, headers: dict[str, str], wait_s: float = 0.0) -> Any:
        return self.http.post("/v1/lease", headers=headers, json={
            "protocol": 1, "wait_s": wait_s})

    def poll(self, wait_s: float) -> httpx.Request:
        return self.http.build_request("POST", "/v1/lease", headers=self.builder, json={
            "protocol": 1, "wait_s": wait_s})

    def put(self, headers: dict[str, str], lease: dict[str, Any], content: bytes,
            **more: str) -> Any:
        return self.http.put(
            f"/v1/results/{lease['job']}/{lease['attempt']}?fence={lease['fence']}",
            content=content,
            headers={**headers, "X-Content-Sha256": hashlib.sha256(content).hexdigest(), **more})


def enrolment(token: str, name: str = "local_cpu") -> dict[str, Any]:
    return {"protocol": 1, "token": token, "name": name, "fingerprint": {"hostname": "workbench"},
            "capabilities": {}}


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    lab = Laboratory.open(tmp_path)
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        yield Wire(lab, server)
    lab.store.close()


def test_a_job_from_lease_to_result(wire: Wire) -> None:
    job = wire.submit()
    answer = wire.lease(wire.builder)
    lease = protocol.decode(protocol.Lease, answer.content)
    assert (lease.job, lease.kind, lease.attempt) == (job["job"], "compress", 1)
    assert lease.payload == build_payload() and lease.ttl_s == 60.0
    beat = wire.http.post("/v1/heartbeat", headers=wire.builder, json={
        "job": lease.job, "fence": lease.fence, "progress": 0.5})
    assert beat.json() == {"verdict": "continue"}
    wire.lab.coordinator.tick()
    shown = wire.http.get(f"/v1/jobs/{lease.job}", headers=OPERATOR).json()
    assert (shown["state"], shown["progress"]) == ("leased", 0.5)
    content = envelope({"reason": "nan_loss", "message": "NaN"}, "failed")
    for _ in range(2):
        accepted = wire.put(wire.builder, answer.json(), content)
        assert (accepted.status_code, accepted.json()) == (200, {"accepted": True})
    other = wire.put(wire.builder, answer.json(), envelope({"reason": "x", "message": "y"}))
    assert other.status_code == 409 and "already accepted" in other.json()["error"]


def test_results_may_be_gzip(wire: Wire) -> None:
    wire.submit()
    lease = wire.lease(wire.builder).json()
    content = envelope({"reason": "nan_loss", "message": "NaN"}, "failed")
    path = f"/v1/results/{lease['job']}/{lease['attempt']}?fence={lease['fence']}"
    for hashed in (content, gzip.compress(content, mtime=0)):
        answer = wire.http.put(path, content=gzip.compress(content, mtime=0), headers={
            **wire.builder, "Content-Encoding": "gzip",
            "X-Content-Sha256": hashlib.sha256(hashed).hexdigest()})
        assert answer.status_code == 200


def test_the_largest_scores_and_labels_fit_into_a_result(wire: Wire) -> None:
    """Random numbers, which no compression makes smaller."""
    random = np.random.default_rng(0)
    n = LARGEST_LABELS_BYTES
    scores = random.integers(0, 2**32, n, np.uint32)
    codes = random.integers(0, 256, n).astype(np.uint8)
    assert scores.nbytes == LARGEST_SCORES_BYTES

    def packed(name: str, rows: np.ndarray) -> dict[str, str]:
        content, encoding = pack(rows)
        return {name: base64.b64encode(content).decode(), "encoding": encoding}

    labels = [{"kind": kind, "names": [f"{i:200}" for i in range(MOST_NAMES)],
               **packed("codes", codes)} for kind in ("class", "group")]
    wire.submit()
    lease = wire.lease(wire.builder).json()
    document = {**build_result(wire.lab.artifact(b"model")), "evaluation": {
        "metric": "angle_error", "value": 1.0, "n": n, **packed("scores", scores),
        "labels": labels}}
    assert wire.put(wire.builder, lease, envelope(document)).status_code == 200
    job = wire.http.get(f"/v1/jobs/{lease['job']}", headers=OPERATOR).json()
    assert job["state"] == "done", job["message"]
    told = job["result"]["evaluation"]
    assert len(told["scores"]) > LARGEST_SCORES_BYTES and "labels" not in told


def test_a_damaged_body_is_asked_for_again(wire: Wire) -> None:
    wire.submit()
    lease = wire.lease(wire.builder).json()
    answer = wire.put(wire.builder, lease, b"{}", **{"X-Content-Sha256": "0" * 64})
    assert answer.status_code == 400 and "Send it again" in answer.json()["error"]
    assert wire.http.get(
        f"/v1/jobs/{lease['job']}", headers=OPERATOR).json()["state"] == "leased"


def test_nothing_to_do_is_204(wire: Wire) -> None:
    answer = wire.lease(wire.builder)
    assert answer.status_code == 204 and answer.content == b""


def test_a_long_poll_ends_with_the_job(wire: Wire) -> None:
    async def poll_then_submit() -> httpx.Response:
        poll = asyncio.create_task(wire.server.answer(wire.poll(30.0)))
        while not wire.server.app.state.polls:
            await asyncio.sleep(0)
        wire.lab.compress()
        return await poll

    assert wire.server.run(poll_then_submit()).status_code == 200


def test_a_later_poll_of_the_same_agent_replaces_the_first(wire: Wire) -> None:
    async def two_polls() -> tuple[httpx.Response, httpx.Response]:
        first = asyncio.create_task(wire.server.answer(wire.poll(30.0)))
        while not wire.server.app.state.polls:
            await asyncio.sleep(0)
        second = asyncio.create_task(wire.server.answer(wire.poll(30.0)))
        before = next(iter(wire.server.app.state.polls.values()))
        while next(iter(wire.server.app.state.polls.values())) is before:
            await asyncio.sleep(0)
        wire.lab.compress()
        return await first, await second

    first, second = wire.server.run(two_polls())
    assert (first.status_code, second.status_code) == (204, 200)
    assert second.json()["attempt"] == 1


def test_a_poll_ends_when_the_server_stops(wire: Wire) -> None:
    async def poll_then_close() -> httpx.Response:
        poll = asyncio.create_task(wire.server.answer(wire.poll(30.0)))
        while not wire.server.app.state.polls:
            await asyncio.sleep(0)
        wire.server.app.state.notifications.close()
        return await poll

    assert wire.server.run(poll_then_close()).status_code == 204


def test_versions_that_do_not_meet(wire: Wire) -> None:
    answers = [
        wire.http.post("/v1/lease", headers=wire.builder, json={"protocol": 9, "wait_s": 0}),
        wire.http.post("/v1/agents", json={"protocol": 9}),
    ]
    for answer in answers:
        assert answer.status_code == 426
        assert (answer.json()["server"], answer.json()["client"]) == (1, 9)
        assert "protocol 9" in answer.json()["error"]
        assert answer.headers["x-agent-sha256"] == wire.server.app.state.agent_sha256


def test_artifacts_by_range(wire: Wire) -> None:
    agent = wire.enrol()
    sha256 = wire.lab.artifact(b"0123456789")["sha256"]
    whole = wire.http.get(f"/v1/artifacts/{sha256}", headers=agent)
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    part = wire.http.get(f"/v1/artifacts/{sha256}", headers={**agent, "Range": "bytes=4-"})
    assert (part.status_code, part.content) == (206, b"456789")
    assert part.headers["content-range"] == "bytes 4-9/10"


@pytest.mark.parametrize("path", [
    "/v1/artifacts/..%2f..%2fledger.db", "/v1/artifacts/ledger.db", "/v1/artifacts/" + "A" * 64,
    "/v1/artifacts/" + "0" * 64, "/v1/artifacts/" + "0" * 63 + "%0a", "/v1/artifacts/../ledger.db",
])
def test_no_path_from_the_wire_reaches_the_file_system(wire: Wire, path: str) -> None:
    answer = wire.http.get(path, headers=OPERATOR)
    assert answer.status_code in (400, 404) and set(answer.json()) == {"error"}


def test_one_agent_cannot_speak_for_another(wire: Wire) -> None:
    wire.submit()
    lease = wire.lease(wire.builder).json()
    other = {"Authorization": f"Bearer {wire.lab.coordinator.roster.add_builder('other')[1]}"}
    answer = wire.put(other, lease, envelope({"reason": "x", "message": "y"}, "failed"))
    assert answer.status_code == 409


def test_bodies_have_limits(wire: Wire) -> None:
    long = b'{"protocol": 1, "x": "' + b"x" * MOST_BYTES + b'"}'
    announced = wire.http.post("/v1/lease", headers=wire.builder, content=long)
    assert announced.status_code == 413

    def drip() -> Iterator[bytes]:
        for start in range(0, len(long), 65_536):
            yield long[start:start + 65_536]

    for path, headers in (("/v1/lease", wire.builder), ("/v1/jobs", OPERATOR)):
        answer = wire.http.post(path, headers=headers, content=drip())
        assert answer.status_code == 413 and "longer than" in answer.json()["error"]


@pytest.mark.parametrize("content", [
    b"", b"[]", b"null", b"{", b"\xff", b'{"protocol": "1"}', b'{"protocol": 1}', b"[" * 100_000,
    b'{"protocol": true, "wait_s": 0}', b'{"protocol": 1, "wait_s": NaN}',
    b'{"job": 1e400, "fence": 1}', b'{"job": -1, "fence": 1}', json.dumps(
        {"job": 2**80, "fence": 1}).encode(),
])
@pytest.mark.parametrize("path", ["/v1/lease", "/v1/heartbeat", "/v1/agents"])
def test_nonsense_is_a_clear_refusal(wire: Wire, path: str, content: bytes) -> None:
    answer = wire.http.post(path, headers=wire.builder, content=content)
    assert answer.status_code in (400, 404) and answer.json()["error"]


@pytest.mark.parametrize("path", [
    "/v1/results/x/1?fence=1", f"/v1/results/{2**70}/1?fence=1", "/v1/results/1/1",
    "/v1/results/-1/1?fence=1", "/v1/results/1/1?fence=nan", "/v1/results/5/1?fence=1",
])
def test_odd_result_addresses(wire: Wire, path: str) -> None:
    body = envelope({})
    answer = wire.http.put(path, content=body, headers={
        **wire.builder, "X-Content-Sha256": hashlib.sha256(body).hexdigest()})
    assert answer.status_code in (400, 404)


def test_a_full_disk_answers_507_and_the_coordinator_lives(wire: Wire) -> None:
    db = wire.lab.store.db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    codes = set()
    for number in range(40):
        payload = {**build_payload(number), "task": "t" * 3000}
        codes.add(wire.http.post("/v1/jobs", headers=OPERATOR, json={
            "kind": "compress", "pool": "builder", "payload": payload}).status_code)
    assert codes == {200, 507}
    assert wire.http.get("/healthz").status_code == 200
    db.execute("PRAGMA max_page_count = 1000000").fetchone()
    assert wire.submit(99)["state"] == "queued"


def test_a_read_only_ledger_answers_503(wire: Wire) -> None:
    wire.lab.store.db.execute("PRAGMA query_only = ON").fetchall()
    answer = wire.http.post("/v1/enrolments", json={"name": "x"}, headers=OPERATOR)
    assert answer.status_code == 503 and "cannot be written" in answer.json()["error"]
    wire.lab.store.db.execute("PRAGMA query_only = OFF").fetchall()


def test_unknown_routes_and_methods(wire: Wire) -> None:
    assert wire.http.get("/v1/birds", headers=OPERATOR).json() == {"error": "Not Found"}
    assert wire.http.delete("/v1/jobs/1", headers=OPERATOR).status_code == 405
    assert wire.http.get("/docs", headers=OPERATOR).status_code == 404
