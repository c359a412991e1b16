"""Keep-alive connections that replay golden messages in cycles of lease, heartbeat and result.

    connection   |lease|heartbeat|result|lease|heartbeat|result| ...
                 in a closed loop, or at a fixed rate (``cycles_per_s``)
"""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agents import protocol
from benchmarks.load.prepared import Device


@dataclass
class Tally:
    """Results of all connections; times from the last byte sent to the last byte received."""

    cycles: int = 0
    refused: list[str] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    lease_s: list[float] = field(default_factory=list)
    idle: int = 0

    def lease_ms(self, share: float) -> float:
        """The ``share`` quantile of the answers to lease requests, in milliseconds."""
        ordered = sorted(self.lease_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1e3 if ordered \
            else float("nan")


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(str(error)))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def data_received(self, piece: bytes) -> None:
        self._buffer += piece
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15:].partition(b"\r\n")[0]) if at >= 0 else 0
        if len(body) < length:
            return
        self._buffer = body[length:]
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((int(head[9:12]), body[:length]))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def request(method: str, target: str, secret: str, body: bytes, more: str = "") -> bytes:
    return (f"{method} {target} HTTP/1.1\r\nHost: coordinator\r\nAuthorization: Bearer {secret}\r\n"
            f"Content-Type: application/json\r\n{more}Content-Length: {len(body)}\r\n\r\n"
            ).encode() + body


async def connect(host: str, port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return connection


async def replay(host: str, port: int, devices: Sequence[Device], result: bytes, seconds: float,
                 cycles_per_s: float | None, tally: Tally) -> None:
    """Runs all ``devices`` for ``seconds``. ``cycles_per_s`` is their total rate; None: no limit.
    """
    stop_s = asyncio.get_running_loop().time() + seconds
    every_s = None if cycles_per_s is None else len(devices) / cycles_per_s
    await asyncio.gather(*(
        _one(host, port, device, result, stop_s, every_s, number / len(devices), tally)
        for number, device in enumerate(devices)))


async def _one(host: str, port: int, device: Device, result: bytes, stop_s: float,
               every_s: float | None, phase: float, tally: Tally) -> None:
    now_s: Callable[[], float] = asyncio.get_running_loop().time
    lease = request("POST", "/v1/lease", device.secret, protocol.encode(
        protocol.LeaseRequest(protocol.PROTOCOL_VERSION, 0.0, list(protocol.DEVICE_KINDS))))
    digest = f"X-Content-Sha256: {protocol.content_sha256(result)}\r\n"
    connection = await connect(host, port)
    due_s = now_s() + phase * (every_s or 0.0)
    jitter = random.Random(device.name)
    while now_s() < stop_s:
        if every_s is not None:
            await asyncio.sleep(max(due_s - now_s(), 0.0))
            due_s += every_s * jitter.uniform(0.5, 1.5)
        began_s = now_s()
        status, body = await connection.ask(lease)
        tally.lease_s.append(now_s() - began_s)
        if status != 200:
            tally.idle += 1
            if status != 204:
                tally.refused.append(f"lease {status} {body[:200]!r}")
            await asyncio.sleep(0.1)
            continue
        leased = json.loads(body)
        beat = protocol.encode(protocol.Heartbeat(leased["job"], leased["fence"], 0.5))
        status, body = await connection.ask(request(
            "POST", "/v1/heartbeat", device.secret, beat))
        if status != 200:
            tally.refused.append(f"heartbeat {status} {body[:200]!r}")
        target = f"/v1/results/{leased['job']}/{leased['attempt']}?fence={leased['fence']}"
        status, body = await connection.ask(request(
            "PUT", target, device.secret, result, digest))
        if status == 200:
            tally.acknowledged.add(leased["job"])
            tally.cycles += 1
        else:
            tally.refused.append(f"result {status} {body[:200]!r}")
    connection.close()
