"""The coordinator as a process, and requests over real sockets that no client of ours sends."""

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading

import httpx
import pytest
import uvicorn

from searcher.api.app import create_app
from searcher.api.http import limits, request_head
from searcher.ledger.read_only import open_ledger
from tests.searcher_tests.dispatch.laboratory import Laboratory

PATIENCE_S = 60.0
LARGEST = 3_000_000


class Coordinator:
    """A process without builders that takes uploads of up to ``LARGEST`` bytes."""

    def __init__(self, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "searcher.api.server", "--dir", str(folder), "--builders", "0",
             "--largest-upload", str(LARGEST), "--parent-pid", str(os.getpid())],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = []
        for line in self.process.stderr:
            said.append(line)
            if "startup complete" in line:
                break
        else:
            raise AssertionError("".join(said))
        self.log = said
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        address = json.loads((folder / "coordinator.json").read_text())
        self.url, self.token = address["url"], address["token"]
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S, headers={
            "Authorization": f"Bearer {self.token}"})

    def read(self):
        self.log.extend(self.process.stderr)

    def stop(self):
        self.http.close()
        self.process.terminate()
        self.reader.join(PATIENCE_S)
        self.process.stderr.close()
        return self.process.wait(PATIENCE_S)

    def connect(self):
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), PATIENCE_S)

    def exchange(self, *pieces):
        """What the server answers until it closes, or until the answer is complete."""
        with self.connect() as wire:
            try:
                for piece in pieces:
                    wire.sendall(piece)
            except OSError:
                pass  # it has heard enough
            return answer_on(wire)

    def upload(self, content, **headers):
        sha256 = hashlib.sha256(content).hexdigest()
        return self.http.put(f"/v1/artifacts/{sha256}", content=content, headers=headers)

    def head(self, path, **headers):
        lines = [f"PUT {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}",
                 *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()


def answer_on(wire):
    """The first answer's status (0 if there is none) and text."""
    received = b""
    try:
        while b"\r\n\r\n" not in received or not complete(received):
            piece = wire.recv(65_536)
            if not piece:
                break
            received += piece
    except ConnectionError:
        pass
    return int(received.split()[1]) if received else 0, received.decode(errors="replace")


def complete(received):
    head, _, body = received.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return False


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory):
    started = Coordinator(tmp_path_factory.mktemp("lab") / "data")
    yield started
    assert started.http.get("/healthz").status_code == 200
    assert started.stop() == 0
    assert not [line for line in started.log if "Traceback" in line], started.log


ROUTES = [("/v1/results/1/1?fence=1", limits.MOST_RESULT_BYTES), ("/v1/jobs", limits.MOST_BYTES),
          ("/v1/campaigns", limits.MOST_BYTES), ("/v1/lease", limits.MOST_BYTES),
          ("/v1/agents", limits.MOST_BYTES), ("/v1/artifacts/" + "0" * 64, LARGEST)]


def method(path):
    return "PUT" if "results" in path or "artifacts" in path else "POST"


@pytest.mark.parametrize(("path", "most"), ROUTES)
def test_an_announced_body_that_is_too_long(coordinator, path, most):
    head = coordinator.head(path, Content_Length=most + 1).replace(b"PUT", method(path).encode())
    status, text = coordinator.exchange(head)
    assert status == 413 and "longer than" in text, "before any of it was sent"


def secret_of_builder(coordinator):
    """Enrolled as an operator would."""
    token = coordinator.http.post("/v1/enrolments", json={
        "name": "b", "role": "builder"}).json()["token"]
    return coordinator.http.post("/v1/agents", json={
        "protocol": 1, "token": token, "name": "b", "fingerprint": {}, "capabilities": {}}
    ).json()["secret"]


@pytest.mark.parametrize(("path", "most"), ROUTES)
def test_a_body_without_a_length_that_is_too_long(coordinator, path, most):
    def drip():
        for _ in range(most // 65_536 + 2):
            yield bytes(65_536)

    works = path.startswith(("/v1/results", "/v1/lease"))
    headers = {"Authorization": f"Bearer {secret_of_builder(coordinator)}"} if works else {}
    answer = coordinator.http.request(method(path), path, content=drip(), headers={
        **headers, "X-Content-Sha256": "0" * 64, "Content-Type": "application/json"})
    assert answer.status_code == 413 and "longer than" in answer.json()["error"]
    assert not list((coordinator.folder / "artifacts").iterdir())


def test_strangers_send_nothing(coordinator):
    answer = httpx.put(f"{coordinator.url}/v1/artifacts/{'0' * 64}", content=bytes(10**6))
    assert answer.status_code == 401
    assert not list((coordinator.folder / "artifacts").iterdir())


@pytest.mark.parametrize(("size", "statuses"), [(40_000, (431,)), (100_000, (400, 431))])
@pytest.mark.parametrize("head", [
    "GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "GET /healthz?{} HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: x\r\n{}: y\r\n\r\n"], ids=["address", "query", "value", "name"])
def test_a_long_head(coordinator, head, size, statuses):
    status, text = coordinator.exchange(head.format("x" * size).encode())
    assert status in statuses
    assert status == 400 or "Address and headers are longer than" in text


def test_many_headers(coordinator):
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"
    assert coordinator.exchange(head)[0] in (400, 431)


@pytest.mark.parametrize("start", [
    b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"], ids=["address", "value", "name"])
def test_a_head_without_end(coordinator, start):
    """It is not collected: the connection ends."""
    status, _ = coordinator.exchange(start, *[b"x" * 65_536] * 400)
    assert status in (0, 400)


@pytest.mark.parametrize("request_", [
    b"\0" * 100, b"\x16\x03\x01\x02\x00\x01\x00" * 20, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", b"FLY / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", b"GET  /  HTTP/1.1\r\n\r\n",
], ids=range(12))
def test_what_is_no_http(coordinator, request_):
    status, _ = coordinator.exchange(request_)
    assert status in (0, 400, 401, 404, 405)


@pytest.mark.parametrize("path", [
    "/v1/artifacts/..%2f..%2fledger.db", "/v1/artifacts/../../ledger.db", "//etc/passwd",
    "/v1/artifacts/%00", "/v1/artifacts/" + "%2e%2e%2f" * 20 + "etc/passwd", "/v1/artifacts//",
    "/v1/artifacts/" + "a" * 8000, "/v1/artifacts/\\..\\..\\x", "/v1/artifacts/%ff%fe"])
@pytest.mark.parametrize("verb", [b"GET", b"PUT", b"HEAD"])
def test_no_path_from_the_wire_reaches_the_file_system(coordinator, path, verb):
    """Addresses go out as they are: no client has tidied them."""
    before = sorted(coordinator.folder.rglob("*"))
    head = coordinator.head(path, Content_Length=1, Connection="close").replace(b"PUT", verb, 1)
    status, text = coordinator.exchange(head + b"x")
    assert status in (400, 404, 405), text
    assert sorted(coordinator.folder.rglob("*")) == before


def test_a_sender_that_vanishes_and_comes_back(coordinator):
    content = os.urandom(2_500_000)
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"/v1/artifacts/{sha256}"
    partial = coordinator.folder / "artifacts" / f".{sha256}.upload"
    with coordinator.connect() as wire:
        wire.sendall(coordinator.head(path, Content_Length=len(content)) + content[:2_000_000])
        while not partial.exists():
            assert coordinator.http.get("/healthz").status_code == 200, "and it serves others"
    while (answer := coordinator.http.head(path)).headers.get("Upload-Offset") != "2000000":
        assert answer.status_code in (204, 404)
    rest = content[2_000_000:]
    where = f"bytes 2000000-{len(content) - 1}/{len(content)}"
    while (answer := coordinator.http.put(path, content=rest, headers={
            "Content-Range": where})).status_code == 409:
        assert "Another request" in answer.json()["error"], "the first is not known to be gone yet"
    assert answer.json() == {"sha256": sha256, "complete": True}
    assert coordinator.http.get(path).content == content
    assert not partial.exists()
    with open_ledger(coordinator.folder / "ledger.db") as db:
        [row] = db.query("SELECT * FROM artifacts WHERE sha256 = ?", [sha256])
    assert (row["origin"], row["file_bytes"]) == ("upload", len(content))


def test_two_senders_of_one_file(coordinator):
    content = os.urandom(2_900_000)
    answers = []

    def send():
        with httpx.Client(base_url=coordinator.url, timeout=PATIENCE_S) as client:
            answers.append(client.put(
                f"/v1/artifacts/{hashlib.sha256(content).hexdigest()}", content=content,
                headers={"Authorization": f"Bearer {coordinator.token}"}).status_code)

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(PATIENCE_S)
    assert len(answers) == 4 and set(answers) <= {200, 409} and 200 in answers
    assert coordinator.upload(content).status_code == 200
    stored = coordinator.folder / "artifacts" / hashlib.sha256(content).hexdigest()
    assert stored.read_bytes() == content


# -- patience, in this process so that it is short -----------------------------------------------


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """A coordinator behind a real socket that waits a tenth of a second."""
    monkeypatch.setattr(request_head, "PAUSE_S", 0.1)
    started, ended = threading.Event(), threading.Event()
    found = {}

    def run():
        lab = Laboratory.open(tmp_path)
        app = create_app(lab.coordinator, "operator")
        [layer] = [one for one in app.user_middleware if one.cls is limits.RequestLimits]
        layer.kwargs["pause_s"] = 0.1

        async def serve():
            listener = socket.create_server(("127.0.0.1", 0))
            server = uvicorn.Server(uvicorn.Config(
                app, http=request_head.http_protocol(), log_config=None, access_log=False))
            found["address"] = listener.getsockname()
            serving = asyncio.create_task(server.serve([listener]))
            started.set()
            await asyncio.to_thread(ended.wait)
            server.should_exit = True
            await serving

        asyncio.run(serve())
        lab.store.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(PATIENCE_S)
    yield lambda: socket.create_connection(found["address"], PATIENCE_S)
    ended.set()
    thread.join(PATIENCE_S)


AUTHORISED = b"Host: x\r\nAuthorization: Bearer operator\r\n"


@pytest.mark.parametrize("head", [
    b"PUT /v1/artifacts/" + b"0" * 64 + b" HTTP/1.1\r\n" + AUTHORISED,
    b"POST /v1/jobs HTTP/1.1\r\nContent-Type: application/json\r\n" + AUTHORISED,
    b"POST /v1/agents HTTP/1.1\r\nHost: x\r\n"], ids=["upload", "job", "enrolment"])
def test_a_body_that_stops_coming(impatient, head):
    with impatient() as wire:
        wire.sendall(head + b"Content-Length: 100\r\n\r\nabc")
        status, text = answer_on(wire)
    assert status == 408 and "The body stopped" in text


@pytest.mark.parametrize("start", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_stops_coming(impatient, start):
    with impatient() as wire:
        wire.sendall(start)
        assert wire.recv(1000) == b"", "the connection ends"


def test_a_quick_sender_is_not_disturbed(impatient):
    with impatient() as wire:
        for _ in range(3):
            wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer_on(wire)[0] == 200
