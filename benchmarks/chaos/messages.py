"""Complete HTTP/1.1 messages as bytes, which the proxy can delay, repeat or truncate."""

import asyncio
from dataclasses import dataclass

HEAD_LIMIT_BYTES = 64 << 10
BODY_LIMIT_BYTES = 64 << 20


class Broken(Exception):
    """The peer closed the connection early, or sent bytes that are not HTTP."""


@dataclass(frozen=True)
class Message:
    """A request or response: start line, headers by lower-case name, complete body."""

    start: str
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        """Status code of a response."""
        return int(self.start.split()[1])

    @property
    def method(self) -> str:
        return self.start.split()[0]

    @property
    def target(self) -> str:
        return self.start.split()[1]

    def encoded(self, **changes: str) -> bytes:
        """The bytes of the message, with headers replaced by ``changes`` (``_`` for ``-``)."""
        headers = {k: v for k, v in self.headers.items() if k != "transfer-encoding"}
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        if self.body or "content-length" in headers:
            headers["content-length"] = str(len(self.body))
        lines = [self.start, *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None when the connection was closed between messages. Raises Broken."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise Broken("the head is incomplete") from error
    except (OSError, asyncio.LimitOverrunError) as error:
        raise Broken(str(error)) from error
    start, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Message(start, headers, await _body(reader, start, headers))


async def _body(reader: asyncio.StreamReader, start: str, headers: dict[str, str]) -> bytes:
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await _chunks(reader)
        if "content-length" in headers:
            return await reader.readexactly(min(int(headers["content-length"]), BODY_LIMIT_BYTES))
        no_body = start.startswith("HTTP/1.1 204") or not start.startswith("HTTP/")
        return b"" if no_body else await reader.read(-1)
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        raise Broken("the body is incomplete") from error


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int((await reader.readline()).split(b";")[0] or b"x", 16)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        if size == 0:
            return body
