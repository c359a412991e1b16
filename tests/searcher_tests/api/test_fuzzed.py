"""Bodies of strangers over HTTP: accepted or refused with a reason, never a 5xx, and the
coordinator serves on."""

import base64
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searcher.api.app import create_app
from searcher.api.http import limits
from searcher.devices.health import DeviceRules
from searcher.dispatch.coordinator import Rules
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import (
    SPEC,
    Laboratory,
    build_payload,
    evaluation,
    measure_payload,
    measure_result,
)
from tests.searcher_tests.hostile import FEW, VALUES, as_body, damaged, nested, spoilt
from tests.searcher_tests.jobs.test_inspect import ACCEPTED
from tests.searcher_tests.spec.test_campaign import FULL

OPERATOR = {"Authorization": "Bearer operator"}
CONTENT = b"one model, another model" * 50
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Target:
    """A coordinator with an agent and a builder, and jobs for them to answer."""

    def __init__(self, lab: Laboratory, server: LocalServer) -> None:
        self.lab = lab
        self.http = httpx.Client(base_url="http://test", transport=server)
        token, _ = lab.coordinator.roster.invite("local_cpu", "agent", None, 60.0)
        _, agent = lab.coordinator.enrol(token, "local_cpu", {"hostname": "far"}, {})
        _, builder = lab.coordinator.roster.add_builder("b")
        self.secrets = {"measure": agent, "compress": builder, "inspect": builder,
                        "evaluate": builder}
        self.file = lab.artifact(b"a file")
        self.number = self.leased = 0

    def headers(self, kind: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets[kind]}"}

    def lease(self, kind: str) -> dict[str, Any]:
        """A new job of ``kind``, leased by a worker of its pool."""
        self.number += 1
        payload = {
            "measure": {**measure_payload(self.file, self.file), "attempt": self.number},
            "compress": build_payload(self.number),
            "inspect": {"sha256": self.file["sha256"], "n": self.number},
            "evaluate": {"task": f"t{self.number}", "sha256": self.file["sha256"],
                         "split": "test"}}[kind]
        pool = "device:local_cpu" if kind == "measure" else "builder"
        self.lab.coordinator.submit(kind, pool, payload)
        answer = self.http.post("/v1/lease", headers=self.headers(kind), json={
            "protocol": 1, "wait_s": 0})
        assert answer.status_code == 200 and answer.json()["kind"] == kind, answer.text
        self.leased = answer.json()["job"]
        return dict(answer.json())

    def right(self, kind: str) -> dict[str, Any]:
        """A valid request of a worker."""
        return {"state": "done", "result": {
            "measure": measure_result(measure_payload(self.file, self.file)),
            "compress": {
                "build_key": "key", "sha256": self.file["sha256"],
                "file_bytes": self.file["size_bytes"], "graph_key": "g", "probe_outputs": [0.5],
                "report": {"parameters": 1}, "evaluation": evaluation(), "built_steps": 1,
                "reused_steps": 0},
            "inspect": {"inspection": ACCEPTED}, "evaluate": {"evaluation": evaluation()}}[kind]}

    def put(self, kind: str, body: bytes, encoding: str = "", sha256: str | None = None
            ) -> httpx.Response:
        lease = self.lease(kind)
        return self.http.put(
            f"/v1/results/{lease['job']}/{lease['attempt']}?fence={lease['fence']}", content=body,
            headers={**self.headers(kind), **({"Content-Encoding": encoding} if encoding else {}),
                     "X-Content-Sha256": sha256 or hashlib.sha256(body).hexdigest()})

    def latest(self) -> dict[str, Any]:
        """The job that was leased last."""
        return dict(self.http.get(f"/v1/jobs/{self.leased}", headers=OPERATOR).json())


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    # A device that sends only invalid results would soon be quarantined.
    patient = Rules(device=DeviceRules(most_strikes=10**9))
    lab = Laboratory.open(tmp_path_factory.mktemp("lab"), rules=patient)
    lab.store.db.execute("PRAGMA synchronous = OFF").fetchall()  # faster for thousands of jobs
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        yield Target(lab, server)
        assert httpx.Client(base_url="http://test", transport=server).get(
            "/healthz").status_code == 200
    lab.store.close()


def judged(answer: httpx.Response) -> int:
    """The status, which must not be 5xx; a refusal must have a reason."""
    assert answer.status_code < 500, answer.text[:500]
    if answer.status_code >= 400:
        assert answer.json()["error"], answer.text[:500]
    return answer.status_code


KINDS = ["measure", "compress", "inspect", "evaluate"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_result_is_accepted(target: Target, kind: str) -> None:
    assert judged(target.put(kind, as_body(target.right(kind)))) == 200
    job = target.latest()
    assert job["state"] == "done", job


@pytest.mark.parametrize("kind", KINDS)
def test_results_with_something_wrong(target: Target, kind: str) -> None:
    @FEW
    @given(spoilt(target.right(kind), changes=3))
    def run(document: Any) -> None:
        assert judged(target.put(kind, as_body(document))) in (200, 400)

    run()


@pytest.mark.parametrize("kind", KINDS)
def test_results_that_were_damaged(target: Target, kind: str) -> None:
    @FEW
    @given(damaged(as_body(target.right(kind))))
    def run(body: bytes) -> None:
        assert judged(target.put(kind, body)) in (200, 400)

    run()


def test_results_of_anything(target: Target) -> None:
    @FEW
    @given(st.sampled_from(KINDS), st.binary(max_size=50) | VALUES.map(as_body)
           | VALUES.map(lambda value: as_body({"state": "done", "result": value})))
    def run(kind: str, body: bytes) -> None:
        assert judged(target.put(kind, body)) in (200, 400)

    run()


@pytest.mark.parametrize("inner", [
    nested(100_000), "[" * 100_000, "1" * 5000, "-" + "9" * 4000, "1e999999", "NaN", "Infinity",
    '"\\ud800"', '"' + "x" * 10**6 + '"', "[" + "0," * 100_000 + "0]"], ids=range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_values_that_break_parsers(target: Target, kind: str, inner: str) -> None:
    right = json.dumps(target.right(kind))
    for body in (f'{{"state": "done", "result": {inner}}}',
                 f'{{"state": "done", "result": {{"x": {inner}}}}}',
                 right.replace('"result": {', f'"result": {{"probe_outputs": {inner}, ', 1),
                 right.replace("0.5", inner)):
        assert judged(target.put(kind, body.encode())) in (200, 400)


def bomb(size: int) -> bytes:
    """``size`` spaces compressed by gzip, about a thousandth of the size."""
    packer = zlib.compressobj(9, wbits=31)
    piece = b" " * 2**20
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


def test_bodies_that_explode_when_unpacked(target: Target) -> None:
    body = bomb(2 * limits.MOST_UNPACKED_BYTES)
    assert len(body) < limits.MOST_BYTES
    assert judged(target.put("measure", body, "gzip")) == 413
    assert judged(target.put("measure", gzip.compress(body), "gzip")) == 200
    assert target.latest()["reason"] == "malformed_result", "what is in it is not unpacked again"
    samples = zlib.compress(bytes(2**28))
    result = target.right("measure")
    result["result"]["measurements"][0]["samples"] = base64.b64encode(samples).decode()
    assert judged(target.put("measure", as_body(result))) == 200
    row = target.latest()
    assert (row["state"], row["reason"]) == ("failed", "malformed_result")
    assert "unpack" in row["message"]


def test_damaged_gzip(target: Target) -> None:
    @FEW
    @given(damaged(gzip.compress(as_body(target.right("measure")), mtime=0)))
    def run(body: bytes) -> None:
        assert judged(target.put("measure", body, "gzip")) in (200, 400)

    run()


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x" * 3000])
def test_encodings_that_are_not_understood(target: Target, encoding: str) -> None:
    assert judged(target.put("measure", as_body(target.right("measure")), encoding)) == 415


@pytest.mark.parametrize("sha256", ["", "0" * 64, "x", "\xff", "0" * 20_000, "../x"])
def test_wrong_digests(target: Target, sha256: str) -> None:
    lease = target.lease("measure")
    answer = target.http.put(
        f"/v1/results/{lease['job']}/{lease['attempt']}?fence={lease['fence']}", content=b"{}",
        headers={**{k.encode(): v.encode() for k, v in target.headers("measure").items()},
                 b"X-Content-Sha256": sha256.encode("latin-1")})  # type: ignore[arg-type]
    assert judged(answer) == 400


def test_uploads_of_anything(target: Target) -> None:
    folder = target.lab.folder / "artifacts"

    @FEW
    @given(st.binary(max_size=60), st.none() | st.text(
        alphabet=st.sampled_from("bytes 0123456789-/*"), max_size=30) | st.builds(
        "bytes {}-{}/{}".format, *[st.integers(0, 70)] * 3))
    def run(body: bytes, content_range: str | None) -> None:
        headers = {**OPERATOR, **({} if content_range is None else {
            "Content-Range": content_range})}
        answer = target.http.put(f"/v1/artifacts/{SHA256}", content=body, headers=headers)
        assert judged(answer) in (202, 400, 409)
        assert not (folder / SHA256).exists()

    run()
    sent = target.http.put(f"/v1/artifacts/{SHA256}", content=CONTENT, headers=OPERATOR)
    assert judged(sent) == 200 and (folder / SHA256).read_bytes() == CONTENT


def test_names_of_anything(target: Target) -> None:
    folder = target.lab.folder
    before = sorted(folder.rglob("*"))

    @FEW
    @given(st.sampled_from(["GET", "HEAD", "PUT"]), st.text(max_size=80).map(
        lambda name: httpx.URL("http://test/v1/artifacts/").join(
            "/v1/artifacts/" + "".join(f"%{byte:02x}" for byte in name.encode(
                "utf-8", "surrogatepass")))))
    def run(method: str, url: httpx.URL) -> None:
        answer = target.http.request(method, url, headers=OPERATOR)
        assert answer.status_code in (400, 404, 405)

    run()
    assert sorted(folder.rglob("*")) == before


def test_campaigns_with_something_wrong(target: Target) -> None:
    @FEW
    @given(spoilt(FULL, changes=3))
    def run(document: Any) -> None:
        answer = target.http.post("/v1/campaigns", content=as_body(document), headers={
            **OPERATOR, "Content-Type": "application/json"})
        assert judged(answer) in (200, 400, 409)

    run()


def test_jobs_with_something_wrong(target: Target) -> None:
    requests = [
        {"kind": "compress", "pool": "builder", "payload": build_payload(), "priority": 1},
        {"kind": "inspect", "pool": "builder", "payload": {"sha256": target.file["sha256"]}},
        {"kind": "measure", "pool": "device:nowhere",
         "payload": measure_payload(target.file, target.file)}]
    target.http.post("/v1/campaigns", json=SPEC, headers=OPERATOR)

    @FEW
    @given(st.sampled_from(requests).flatmap(lambda request: spoilt(request, changes=3)))
    def run(document: Any) -> None:
        answer = target.http.post("/v1/jobs", content=as_body(document), headers={
            **OPERATOR, "Content-Type": "application/json"})
        assert judged(answer) in (200, 400, 404)

    run()
