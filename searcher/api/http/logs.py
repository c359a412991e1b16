"""The daemon's log on standard error: text lines, or one JSON object per line."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LogFormat = Literal["text", "json"]
SUBJECTS = ("job", "device", "campaign")
"""Fields of a record that name its subject, given as ``extra``."""

access_log = logging.getLogger("fleetfront.access")


class JsonLines(logging.Formatter):
    """``time`` (UTC), ``level``, ``logger``, ``message``, ``exception`` and the ``SUBJECTS``."""

    def format(self, record: logging.LogRecord) -> str:
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(),
        }
        found |= {name: value for name in SUBJECTS
                  if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found, default=str)


def configure(form: LogFormat, level: str = "info") -> None:
    """Send all log records of this process to standard error in ``form``."""
    sink = logging.StreamHandler(sys.stderr)
    sink.setFormatter(JsonLines() if form == "json" else logging.Formatter(
        "%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [sink]
    root.setLevel(level.upper())
    # Below INFO these libraries log what they send, including headers.
    for library in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(library).setLevel(max(logging.INFO, root.level))


class AccessLog:
    """ASGI middleware that logs method, path, status and time of every request. It logs no query,
    header or body, and therefore no secret."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, status = time.monotonic(), 0

        async def seen(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            access_log.debug("%s %s %d %.1f ms", scope["method"], scope["path"], status,
                             (time.monotonic() - began_s) * 1e3)
