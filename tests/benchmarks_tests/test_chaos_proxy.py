"""Faults of the proxy over real sockets, and the journal's entries for them."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from benchmarks.chaos.journal import Exchange, Journal, body_of, read_journal
from benchmarks.chaos.messages import Broken, Message, read_message
from benchmarks.chaos.proxy import FAULTS, Proxy, Upstream

ANSWER = b'{"job": 7, "payload": "left out"}'


class Coordinator:
    """Answers and records every complete request."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.broken = 0
        self.answers = True
        self.more = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await read_message(reader)
        except Broken:
            request = None
        if request is None:
            self.broken += 1
        else:
            self.got.append(request)
            if self.answers:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
                             + ANSWER)
        self.more.set()
        writer.close()

    async def until(self, state: Callable[[], bool]) -> None:
        while not state():
            self.more.clear()
            await asyncio.wait_for(self.more.wait(), 10)


@contextlib.asynccontextmanager
async def wired(folder: Path) -> AsyncIterator[tuple[Coordinator, Proxy, int]]:
    coordinator = Coordinator()
    server = await asyncio.start_server(coordinator.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with Journal(folder) as journal:
        proxy = Proxy(lambda: Upstream(port, "true"), journal, random.Random(0),
                      {"placeholder": "client"})
        try:
            yield coordinator, proxy, await proxy.start()
        finally:
            await proxy.stop()
            server.close()


async def ask(port: int, path: str = "/v1/jobs", body: bytes = b'{"n": 1}',
              secret: str = "mine") -> bytes:
    """Sends one request on a new connection and returns the whole response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST %s HTTP/1.1\r\nauthorization: Bearer %s\r\nconnection: close\r\n"
                 b"content-length: %d\r\n\r\n" % (path.encode(), secret.encode(), len(body)) + body)
    await writer.drain()
    try:
        return await asyncio.wait_for(_answer(reader), 10)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    try:
        message = await read_message(reader)
        return message.encoded() if message else b""
    except Broken:
        return b"broken"


def played(folder: Path, play: Callable[[Coordinator, Proxy, int], Awaitable[None]]
           ) -> list[Exchange]:
    async def run() -> None:
        async with wired(folder) as (coordinator, proxy, port):
            await play(coordinator, proxy, port)

    asyncio.run(run())
    return read_journal(folder)


def test_a_request_without_fault(tmp_path: Path) -> None:
    async def play(coordinator: Coordinator, proxy: Proxy, port: int) -> None:
        assert (await ask(port, "/v1/jobs?wait_s=2")).endswith(ANSWER)

    [one] = played(tmp_path, play)
    assert (one.method, one.path, one.query) == ("POST", "/v1/jobs", {"wait_s": "2"})
    assert (one.status, one.passed, one.fault) == (200, True, None)
    assert one.request == {"n": 1} and one.answer == {"job": 7}
    assert one.received_s is not None and one.received_s >= one.sent_s


def test_a_placeholder_secret_is_replaced_by_the_operators_token(tmp_path: Path) -> None:
    async def play(coordinator: Coordinator, proxy: Proxy, port: int) -> None:
        await ask(port, secret="placeholder")
        await ask(port)
        assert [m.headers["authorization"] for m in coordinator.got] == [
            "Bearer true", "Bearer mine"]

    who = [one.who for one in played(tmp_path, play)]
    assert who[0] == "client" and who[1] != "mine"


@pytest.mark.parametrize(("fault", "requests", "broken", "answered", "acknowledged"), [
    ("request dropped", 0, 0, b"", []),
    ("request cut", 0, 1, b"", []),
    ("request delayed", 1, 0, ANSWER, [(True, "request delayed")]),
    ("requests reordered", 1, 0, ANSWER, [(True, "requests reordered")]),
    ("answer dropped", 1, 0, b"", [(False, "answer dropped")]),
    ("answer cut", 1, 0, b"broken", [(False, "answer cut")]),
])
def test_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, requests: int,
                 broken: int, answered: bytes, acknowledged: list[tuple[bool, str]]) -> None:
    monkeypatch.setattr("benchmarks.chaos.proxy.OVERTAKEN_WITHIN_S", 0.05)

    async def play(coordinator: Coordinator, proxy: Proxy, port: int) -> None:
        proxy.arm(fault, "other")
        got = await ask(port)
        assert got.endswith(answered) if answered == ANSWER else got in (answered, b"")
        await coordinator.until(lambda: len(coordinator.got) + coordinator.broken
                                == requests + broken)
        assert proxy.injected == {fault: 1} and proxy.waiting == 0
        assert (await ask(port)).endswith(ANSWER)

    exchanges = played(tmp_path, play)
    assert [(one.passed, one.fault) for one in exchanges[:-1]] == acknowledged
    assert all(one.acknowledged for one in exchanges)


def test_a_duplicate_arrives_twice_and_is_answered_once(tmp_path: Path) -> None:
    async def play(coordinator: Coordinator, proxy: Proxy, port: int) -> None:
        proxy.arm("request duplicated", "other")
        assert (await ask(port)).endswith(ANSWER)
        await coordinator.until(lambda: len(coordinator.got) == 2)
        assert coordinator.got[0].body == coordinator.got[1].body

    exchanges = played(tmp_path, play)
    assert {(one.passed, one.fault) for one in exchanges} >= {(True, "request duplicated")}


def test_a_reordered_request_is_overtaken(tmp_path: Path) -> None:
    async def play(coordinator: Coordinator, proxy: Proxy, port: int) -> None:
        proxy.arm("requests reordered", "lease")
        held = asyncio.create_task(ask(port, "/v1/lease"))
        while proxy.waiting:
            await asyncio.sleep(0)
        await ask(port, "/v1/heartbeat")
        await held

    assert [one.path for one in played(tmp_path, play)] == ["/v1/heartbeat", "/v1/lease"]


def test_a_missing_response_is_no_acknowledgement(tmp_path: Path) -> None:
    async def play(coordinator: Coordinator, proxy: Proxy, port: int) -> None:
        coordinator.answers = False
        assert await ask(port) == b""

    [one] = played(tmp_path, play)
    assert one.status is None and not one.acknowledged


def test_a_results_body_is_stored_under_its_digest(tmp_path: Path) -> None:
    async def play(coordinator: Coordinator, proxy: Proxy, port: int) -> None:
        await ask(port, "/v1/results/3/1?fence=9", b'{"state":"done"}')

    [one] = played(tmp_path, play)
    assert one.sha256 is not None and body_of(tmp_path, one.sha256) == b'{"state":"done"}'
    assert one.is_about("POST", "v1", "results", "*", "*") and one.part(2) == "3"
    assert not one.is_about("POST", "v1", "results", "*")


def test_every_fault_is_tested() -> None:
    tested = {"request duplicated", "request dropped", "request cut", "request delayed",
              "requests reordered", "answer dropped", "answer cut"}
    assert tested == set(FAULTS)
