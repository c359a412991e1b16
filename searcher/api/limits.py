"""No request body is read beyond its limit."""

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 2 * 2**20
MOST_RESULT_BYTES = 32 * 2**20
MOST_UNPACKED_BYTES = 64 * 2**20


class BodyLimit:
    """ASGI middleware: 413 for a body that is announced, or turns out, too long."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = MOST_BYTES
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > most:
            refusal = JSONResponse({"error": too_long(most)}, 413)
            await refusal(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413, too_long(most))
            return message

        await self._app(scope, counted, send)


def too_long(most: int) -> str:
    """What is said to who sends more than ``most`` bytes."""
    return f"The body is longer than {most} bytes."
