"""Limits of a request: size of head and body, and pauses in the body."""

import asyncio
import re
from itertools import chain

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 2 * 2**20
MOST_RESULT_BYTES = 32 * 2**20
MOST_UNPACKED_BYTES = 64 * 2**20
LARGEST_UPLOAD_BYTES = 2 * 10**9
"""``serve --largest-upload``."""

MOST_HEAD_BYTES = 32 * 2**10
"""Limit for the address and headers of one request."""

PAUSE_S = 30.0
"""Longest wait for the next piece of a body."""

_UPLOAD = re.compile(r"/v1/artifacts/[^/]+")


class RequestLimits:
    """ASGI middleware. It answers 431 for a head that is too long, 413 for a body that is too long
    (announced or received), 408 for a body that stops."""

    def __init__(
        self, app: ASGIApp, largest_upload_bytes: int = LARGEST_UPLOAD_BYTES,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._app, self._pause_s = app, pause_s
        self._largest_upload_bytes = largest_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._most(scope)
        headers = dict(scope["headers"])
        refusal = refusal_of_head(scope, headers.get(b"content-length", b"0"), most)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        seen, complete = 0, False

        async def counted() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(self._pause_s):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(
                    408, f"The body stopped for {self._pause_s:g} s."
                ) from error
            complete = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413, too_long(most))
            return message

        await self._app(scope, counted, send)

    def _most(self, scope: Scope) -> int:
        if scope["path"].startswith("/v1/results/"):
            return MOST_RESULT_BYTES
        if scope["method"] == "PUT" and _UPLOAD.fullmatch(scope["path"]):
            return self._largest_upload_bytes
        return MOST_BYTES


def refusal_of_head(scope: Scope, announced: bytes, most: int) -> JSONResponse | None:
    """431 for a head that is too long, 413 for an announced body of over ``most`` bytes."""
    head = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    head += sum(map(len, chain.from_iterable(scope["headers"])))
    if head > MOST_HEAD_BYTES:
        return JSONResponse(
            {"error": f"Address and headers are longer than {MOST_HEAD_BYTES} bytes."}, 431)
    if not announced.isdigit() or len(announced) > 19 or int(announced) > most:
        return JSONResponse({"error": too_long(most)}, 413)
    return None


def too_long(most: int) -> str:
    """The error message for a body of more than ``most`` bytes."""
    return f"The body is longer than {most} bytes."
