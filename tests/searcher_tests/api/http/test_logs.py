"""The daemon's log: one JSON object per line, without secrets."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from searcher.api.http.logs import AccessLog, configure


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    sink = io.StringIO()
    monkeypatch.setattr(sys, "stderr", sink)
    configure("json", "debug")
    return sink


def said(sink: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def test_a_line_is_one_object(lines: io.StringIO) -> None:
    log = logging.getLogger("searcher.dispatch.coordinator")
    log.warning("job %d:\nlost", 7, extra={"job": 7, "device": None, "campaign": "digits"})
    try:
        raise ValueError("of no use")
    except ValueError:
        log.exception("oh")
    first, second = said(lines)
    assert first.pop("time").endswith("+00:00")
    assert first == {"level": "warning", "logger": "searcher.dispatch.coordinator",
                     "message": "job 7:\nlost", "job": 7, "campaign": "digits"}
    assert "ValueError: of no use" in second["exception"]


def test_libraries_do_not_tell_headers(lines: io.StringIO) -> None:
    for library in ("httpx", "httpcore.http11"):
        logging.getLogger(library).debug("send_request_headers Authorization: Bearer secret")
    assert lines.getvalue() == ""


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def test_a_request_without_query_and_headers(lines: io.StringIO) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"token"}

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/healthz", "query_string": b"token=secret",
             "headers": [(b"authorization", b"Bearer secret")]}
    asyncio.run(AccessLog(_answer)(scope, receive, send))
    [line] = [one for one in said(lines) if one["logger"] == "fleetfront.access"]
    assert line["message"].startswith("GET /healthz 204 ") and line["level"] == "debug"
    assert "secret" not in lines.getvalue() and "token" not in lines.getvalue()
