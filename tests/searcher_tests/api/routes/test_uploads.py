"""Uploads by sha256: whole, in pieces, interrupted, concurrent, invalid, too large."""

import asyncio
import errno
import hashlib
import os
from collections import namedtuple
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from searcher.api.app import create_app
from searcher.api.routes import uploads
from searcher.api.routes.uploads import PIECE_BYTES
from searcher.artifacts import store
from searcher.ledger.tables import builds
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import Laboratory

OPERATOR = {"Authorization": "Bearer operator"}
CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LARGEST = 5 * 2**20


class Depot:
    """An app that takes uploads of up to ``LARGEST`` bytes, and one client."""

    def __init__(self, lab: Laboratory, server: LocalServer) -> None:
        self.lab, self.server = lab, server
        self.http = httpx.Client(base_url="http://test", transport=server, headers=OPERATOR)

    def put(self, content: bytes, sha256: str = SHA256, **headers: str) -> httpx.Response:
        return self.http.put(f"/v1/artifacts/{sha256}", content=content, headers=headers)

    def piece(self, start: int, stop: int, of: bytes = CONTENT, sha256: str = SHA256
              ) -> httpx.Response:
        return self.put(of[start:stop], sha256, **{
            "Content-Range": f"bytes {start}-{stop - 1}/{len(of)}"})

    def head(self, sha256: str = SHA256) -> tuple[int, str | None]:
        answer = self.http.head(f"/v1/artifacts/{sha256}")
        return answer.status_code, answer.headers.get("Upload-Offset")

    def stored(self, sha256: str = SHA256) -> bytes | None:
        path = self.lab.folder / "artifacts" / sha256
        return path.read_bytes() if path.exists() else None

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.lab.folder / "artifacts").iterdir())


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    lab = Laboratory.open(tmp_path)
    with LocalServer(create_app(lab.coordinator, "operator", None, LARGEST)) as server:
        yield Depot(lab, server)
    lab.store.close()


def test_a_whole_file(depot: Depot) -> None:
    assert depot.head() == (404, None)
    answer = depot.put(CONTENT)
    assert (answer.status_code, answer.json()) == (200, {"sha256": SHA256, "complete": True})
    assert depot.stored() == CONTENT and depot.files() == [SHA256]
    row = builds.artifact(depot.lab.store.db, SHA256)
    assert row is not None
    assert (row.origin, row.file_bytes, row.inspection) == ("upload", len(CONTENT), None)
    answer = depot.http.head(f"/v1/artifacts/{SHA256}")
    assert answer.status_code == 200 and answer.headers["content-length"] == str(len(CONTENT))
    assert depot.http.get(f"/v1/artifacts/{SHA256}").content == CONTENT
    assert depot.put(b"whatever").json()["complete"], "what is there is not sent again"
    assert depot.stored() == CONTENT


def test_a_file_in_pieces_that_come_twice(depot: Depot) -> None:
    assert depot.piece(0, 1000).headers["Upload-Offset"] == "1000"
    assert depot.head() == (204, "1000") and depot.stored() is None
    assert builds.artifact(depot.lab.store.db, SHA256) is None
    assert depot.piece(500, 2000).headers["Upload-Offset"] == "2000"
    assert depot.piece(500, 1500).headers["Upload-Offset"] == "2000"
    ahead = depot.piece(2001, 3000)
    assert (ahead.status_code, ahead.headers["Upload-Offset"]) == (409, "2000")
    assert "HEAD" in ahead.json()["error"]
    done = depot.piece(2000, len(CONTENT))
    assert (done.status_code, depot.stored()) == (200, CONTENT)


def test_pieces_survive_the_coordinator(depot: Depot) -> None:
    depot.piece(0, 4321)
    again = depot.lab.reopened()
    with LocalServer(create_app(again.coordinator, "operator")) as server:
        successor = Depot(again, server)
        assert successor.head() == (204, "4321")
        assert successor.piece(4321, len(CONTENT)).status_code == 200
        assert successor.stored() == CONTENT
    again.store.close()


def test_a_wrong_digest_leaves_nothing(depot: Depot) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    answer = depot.put(b"other")
    assert answer.status_code == 400
    assert SHA256 in answer.json()["error"] and other in answer.json()["error"]
    assert depot.files() == [] and builds.artifact(depot.lab.store.db, SHA256) is None
    depot.piece(0, 1000, of=bytes(len(CONTENT)))
    assert depot.piece(1000, len(CONTENT)).status_code == 400
    assert depot.head() == (404, None)
    assert depot.put(CONTENT).status_code == 200


def test_a_whole_file_replaces_pieces(depot: Depot) -> None:
    depot.piece(0, 1000, of=bytes(len(CONTENT)))
    assert depot.put(CONTENT).status_code == 200 and depot.stored() == CONTENT


def test_an_upload_that_arrived_but_was_not_placed(depot: Depot) -> None:
    """The state after a crash between the last byte and the rename."""
    (depot.lab.folder / "artifacts" / f".{SHA256}.upload").write_bytes(CONTENT)
    assert depot.head() == (204, str(len(CONTENT)))
    assert depot.piece(len(CONTENT) - 1, len(CONTENT)).status_code == 200
    assert depot.stored() == CONTENT and depot.files() == [SHA256]


class Held(httpx.AsyncByteStream):
    """A body whose second half is sent on request, or never."""

    def __init__(self, content: bytes, breaks: bool = False) -> None:
        self.content, self.breaks = content, breaks
        self.half_sent, self.go_on = asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        half = len(self.content) // 2
        yield self.content[:half]
        self.half_sent.set()
        await self.go_on.wait()
        yield self.content[half:]


def request(body: httpx.AsyncByteStream, sha256: str) -> httpx.Request:
    return httpx.Request("PUT", f"http://test/v1/artifacts/{sha256}", headers={
        **OPERATOR, "Transfer-Encoding": "chunked"}, stream=body)


def test_others_are_served_while_a_file_comes(depot: Depot) -> None:
    async def story() -> tuple[Any, Any, Any, Any]:
        body = Held(CONTENT)
        transport = httpx.ASGITransport(depot.server.app)
        first = asyncio.create_task(transport.handle_async_request(request(body, SHA256)))
        await body.half_sent.wait()
        health = await transport.handle_async_request(httpx.Request("GET", "http://test/healthz"))
        second = await depot.server.answer(httpx.Request(
            "PUT", f"http://test/v1/artifacts/{SHA256}", headers=OPERATOR, content=CONTENT))
        other = b"another file"
        third = await depot.server.answer(httpx.Request(
            "PUT", f"http://test/v1/artifacts/{hashlib.sha256(other).hexdigest()}",
            headers=OPERATOR, content=other))
        body.go_on.set()
        return await first, health, second, third

    first, health, second, third = depot.server.run(story())
    assert health.status_code == 200
    assert second.status_code == 409 and "Another request" in second.json()["error"]
    assert (first.status_code, third.status_code) == (200, 200)
    assert depot.stored() == CONTENT and len(depot.files()) == 2


def test_a_body_that_breaks_off_is_taken_up_again(depot: Depot) -> None:
    async def half() -> None:
        messages = [
            {"type": "http.request", "body": CONTENT[:5000], "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            assert message.get("status", 400) == 400

        await depot.server.app({
            "type": "http", "method": "PUT", "path": f"/v1/artifacts/{SHA256}", "raw_path": b"",
            "query_string": b"", "headers": [(b"authorization", b"Bearer operator")],
            "http_version": "1.1", "scheme": "http", "root_path": "", "client": None,
            "server": None, "state": {}}, receive, send)

    depot.server.run(half())
    assert depot.head() == (204, "5000")
    assert depot.piece(5000, len(CONTENT)).status_code == 200 and depot.stored() == CONTENT


def test_memory_holds_about_a_piece(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(4 * 2**20)
    sizes = []
    append = uploads.Uploads._append

    def noted(self: uploads.Uploads, sha256: str, offset: int, piece: bytes) -> None:
        sizes.append(len(piece))
        append(self, sha256, offset, piece)

    monkeypatch.setattr(uploads.Uploads, "_append", noted)
    sha256 = hashlib.sha256(content).hexdigest()
    assert depot.put(content, sha256).status_code == 200 and depot.stored(sha256) == content
    assert sum(sizes) == len(content) and max(sizes) < 2 * PIECE_BYTES


def test_a_file_that_is_too_large(depot: Depot) -> None:
    announced = depot.put(bytes(LARGEST + 1))
    assert announced.status_code == 413
    total = depot.put(b"x", **{"Content-Range": f"bytes 0-0/{LARGEST + 1}"})
    assert total.status_code == 413 and "--largest-upload" in total.json()["error"]

    def drip() -> Iterator[bytes]:
        for _ in range(LARGEST // 65_536 + 1):
            yield bytes(65_536)

    dripped = depot.http.put(f"/v1/artifacts/{SHA256}", content=drip())
    assert dripped.status_code == 413 and depot.files() == []


Usage = namedtuple("Usage", "total used free")


def test_uploads_leave_room_for_the_ledger(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    free = uploads.SPARE_BYTES + 6000
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda folder: Usage(0, 0, free))
    refused = depot.put(CONTENT)
    assert refused.status_code == 507 and "Free some space" in refused.json()["error"]
    assert depot.piece(0, 5000).status_code == 507, "the rest would not fit"
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda folder: Usage(0, 0, free + 6000))
    assert depot.piece(0, 5000).status_code == 202
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda folder: Usage(0, 0, 1000))
    assert depot.piece(5000, 6000).status_code == 507
    assert depot.head() == (204, "5000"), "what came stays"
    monkeypatch.undo()
    assert depot.piece(5000, len(CONTENT)).status_code == 200 and depot.stored() == CONTENT


@pytest.mark.parametrize(("number", "status"), [
    (errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EIO, 503), (errno.EROFS, 503)])
def test_a_disk_that_fails(depot: Depot, monkeypatch: pytest.MonkeyPatch, number: int,
                           status: int) -> None:
    depot.piece(0, 1000)

    def failing(*arguments: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", failing)
    answer = depot.piece(1000, len(CONTENT))
    assert answer.status_code == status and os.strerror(number) in answer.json()["error"]
    assert depot.head() == ((404, None) if status == 507 else (204, "1000"))
    assert depot.http.get("/healthz").status_code == 200
    monkeypatch.undo()
    assert depot.put(CONTENT).status_code == 200


def test_leftovers_are_removed_at_start(tmp_path: Path) -> None:
    lab = Laboratory.open(tmp_path)
    folder = tmp_path / "artifacts"
    old, new = folder / f".{SHA256}.upload", folder / f".{'0' * 64}.upload"
    whole = folder / ("1" * 64)
    for path in (old, new, whole):
        path.write_bytes(b"x")
    for path in (old, whole):
        os.utime(path, (0, path.stat().st_mtime - store.LEFTOVER_S - 60))
    with LocalServer(create_app(lab.coordinator, "operator")):
        assert sorted(folder.iterdir()) == sorted([new, whole])
    lab.store.close()


@pytest.mark.parametrize("content_range", [
    "", "bytes", "bytes 0-9", "bytes 0-9/*", "bytes */10", "bytes 9-0/10", "bytes 0-10/10",
    "bytes -1-5/10", "octets 0-9/10", "bytes 0-9/10, bytes 3-4/10", "bytes 0-9/" + "9" * 40,
    "bytes 0-4/10", "bytes 0-9/1e3", "\u0661"])
def test_odd_ranges(depot: Depot, content_range: str) -> None:
    answer = depot.http.put(f"/v1/artifacts/{SHA256}", content=b"0123456789", headers={
        b"Content-Range": content_range.encode()})  # type: ignore[arg-type]
    assert answer.status_code == 400 and "Content-Range" in answer.json()["error"]
    assert depot.files() == []


def test_a_body_beyond_its_range(depot: Depot) -> None:
    def drip() -> Iterator[bytes]:
        yield from (CONTENT[:6], CONTENT[6:12])

    answer = depot.http.put(f"/v1/artifacts/{SHA256}", content=drip(), headers={
        "Content-Range": "bytes 0-9/10"})
    assert answer.status_code == 400 and "beyond 10 bytes" in answer.json()["error"]


HOSTILE_NAMES = [
    "..", "../ledger.db", "..%2fledger.db", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "a/../../x",
    SHA256 + "%00", "%00" + SHA256, SHA256[:-1] + "%2f", SHA256.upper(), SHA256 + "0",
    SHA256[:-1], "x" * 5000, "%252e%252e", SHA256 + "%0a", "." + SHA256, "%2fetc%2fpasswd",
    "\u0661" * 64,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("method", ["PUT", "HEAD", "GET"])
def test_no_name_from_the_wire_touches_the_disk(depot: Depot, method: str, name: str) -> None:
    def everything() -> list[str]:
        return sorted(str(path) for path in depot.lab.folder.parent.rglob("*"))

    before = everything()
    answer = depot.http.request(method, f"/v1/artifacts/{name}", content=(
        CONTENT if method == "PUT" else None))
    assert answer.status_code in (400, 404, 405), answer.text
    assert everything() == before


@pytest.mark.parametrize(("asked", "status", "start", "stop"), [
    ("bytes=0-9", 206, 0, 10), ("bytes=5000-", 206, 5000, len(CONTENT)),
    ("bytes=-7", 206, len(CONTENT) - 7, len(CONTENT)),
    (f"bytes=10000-{10**12}", 206, 10000, len(CONTENT))])
def test_downloads_by_range(depot: Depot, asked: str, status: int, start: int, stop: int) -> None:
    depot.put(CONTENT)
    answer = depot.http.get(f"/v1/artifacts/{SHA256}", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, CONTENT[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"


def test_a_range_outside_of_the_file(depot: Depot) -> None:
    depot.put(CONTENT)
    answer = depot.http.get(f"/v1/artifacts/{SHA256}", headers={"Range": "bytes=99999-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_uploading_is_for_operators(depot: Depot) -> None:
    _, secret = depot.lab.coordinator.roster.add_builder("b")
    for headers, status in (({"Authorization": f"Bearer {secret}"}, 403),
                            ({"Authorization": "Bearer wrong"}, 401)):
        for method in ("PUT", "HEAD"):
            answer = depot.http.request(method, f"/v1/artifacts/{SHA256}", headers=headers)
            assert answer.status_code == status
    assert depot.files() == []


def test_a_file_of_a_builder_keeps_its_origin(depot: Depot) -> None:
    lab = depot.lab
    builder = lab.builder()
    lab.compress()
    job = lab.leased(builder)
    lab.done(builder, job)
    sha256 = lab.coordinator.submit("compress", "builder", job.payload).result["sha256"]  # type: ignore[index]
    content = depot.stored(sha256)
    assert content is not None
    (lab.folder / "artifacts" / sha256).unlink()
    assert depot.put(content, sha256).status_code == 200
    row = builds.artifact(lab.store.db, sha256)
    assert row is not None and row.origin == "build"
