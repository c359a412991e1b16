"""Uploads by the client: pieces, and all kinds of interruptions."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from searcher.api.app import create_app
from searcher.client import upload as uploading
from searcher.client.http import CoordinatorClient
from searcher.client.upload import PIECE_BYTES, upload
from searcher.errors import ProtocolError, UserError
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import Laboratory

CONTENT = bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Road(httpx.BaseTransport):
    """A transport to a coordinator; ``trouble`` can make each request fail."""

    def __init__(self, server: LocalServer) -> None:
        self.server = server
        self.requests: list[httpx.Request] = []
        self.trouble: list[Any] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        trouble = self.trouble.pop(0) if self.trouble else None
        if trouble == "lost":
            raise httpx.ConnectError("connection lost")
        answer = self.server.handle_request(request)
        if trouble == "unanswered":
            raise httpx.ReadError("the answer was lost")
        return trouble or answer

    def pieces(self) -> list[str]:
        return [r.headers["Content-Range"] for r in self.requests if r.method == "PUT"]


class Sender:
    def __init__(self, lab: Laboratory, road: Road, folder: Path) -> None:
        self.lab, self.road = lab, road
        self.slept: list[float] = []
        self.client = CoordinatorClient("http://test", "operator", transport=road,
                                        sleep=self.slept.append, clock=lambda: 0.0)
        self.file = folder / "file"
        self.file.write_bytes(CONTENT)
        self.sent: list[int] = []

    def send(self) -> str:
        return upload(self.client, self.file, lambda sent, of: self.sent.append(sent),
                      self.slept.append)

    def stored(self, sha256: str = SHA256) -> bytes:
        return (self.lab.folder / "artifacts" / sha256).read_bytes()


@pytest.fixture
def sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sender]:
    monkeypatch.setattr(uploading, "PIECE_BYTES", 10_000)
    lab = Laboratory.open(tmp_path)
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        yield Sender(lab, Road(server), tmp_path)
    lab.store.close()


def test_a_file_is_sent_in_pieces(sender: Sender) -> None:
    assert sender.send() == SHA256 and sender.stored() == CONTENT
    assert sender.road.pieces() == [
        "bytes 0-9999/25600", "bytes 10000-19999/25600", "bytes 20000-25599/25600"]
    assert sender.sent == [10_000, 20_000, 25_600]
    sender.send()
    assert len(sender.road.pieces()) == 3, "what is there is not sent again"


def test_lost_pieces_are_sent_again(sender: Sender) -> None:
    sender.road.trouble = ["lost", None, "unanswered", "lost", "unanswered"]
    assert sender.send() == SHA256 and sender.stored() == CONTENT


def test_an_earlier_attempt_is_resumed(sender: Sender) -> None:
    (sender.lab.folder / "artifacts" / f".{SHA256}.upload").write_bytes(CONTENT[:12_345])
    sender.send()
    assert sender.road.pieces()[0] == "bytes 12345-22344/25600" and sender.stored() == CONTENT


def test_an_earlier_attempt_with_all_bytes_is_completed(sender: Sender) -> None:
    (sender.lab.folder / "artifacts" / f".{SHA256}.upload").write_bytes(CONTENT)
    assert sender.send() == SHA256 and sender.stored() == CONTENT


def test_wrong_bytes_of_an_earlier_attempt_are_replaced(sender: Sender) -> None:
    (sender.lab.folder / "artifacts" / f".{SHA256}.upload").write_bytes(bytes(15_000))
    assert sender.send() == SHA256 and sender.stored() == CONTENT


def test_a_file_that_changes_during_the_upload_is_an_error(sender: Sender) -> None:
    original = uploading.sha256_of_file
    uploading.sha256_of_file = lambda path: SHA256[::-1]  # type: ignore[assignment]
    try:
        with pytest.raises(UserError, match=f"{SHA256}, not {SHA256[::-1]}"):
            sender.send()
    finally:
        uploading.sha256_of_file = original
    assert not list((sender.lab.folder / "artifacts").iterdir())


def conflict() -> httpx.Response:
    return httpx.Response(409, json={"error": "Another request is sending this file."})


def test_the_upload_waits_for_another_sender_of_the_same_file(sender: Sender) -> None:
    sender.road.trouble = [None, conflict(), None, conflict()]
    assert sender.send() == SHA256 and sender.slept == [1.0, 1.0]


def test_the_wait_for_another_sender_is_bounded(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "LONGEST_WAIT_S", 3.0)
    sender.road.trouble = [None, *([conflict(), httpx.Response(404)] * 9)]
    with pytest.raises(ProtocolError, match="Another request"):
        sender.send()
    assert sum(sender.slept) == uploading.LONGEST_WAIT_S


def test_pieces_are_small() -> None:
    assert PIECE_BYTES <= 16 * 2**20


def test_missing_and_empty_files_are_errors(sender: Sender, tmp_path: Path) -> None:
    sender.file = tmp_path / "absent"
    with pytest.raises(UserError, match="no file"):
        sender.send()
    sender.file.write_bytes(b"")
    with pytest.raises(UserError, match="is empty"):
        sender.send()
