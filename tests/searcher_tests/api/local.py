"""HTTP without a network: an app, its event loop and its clients in the test's own thread."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from types import TracebackType
from typing import Any

import httpx
from fastapi import FastAPI


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, max(len(self._content), 1), 65_536):
            yield self._content[start:start + 65_536]


class LocalServer(httpx.BaseTransport):
    """A transport for synchronous clients; ``run`` drives coroutines beside them."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._loop = asyncio.new_event_loop()
        self._asgi = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._life = app.router.lifespan_context(app)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    def __enter__(self) -> "LocalServer":
        self.run(self._life.__aenter__())  # type: ignore[arg-type]
        return self

    def __exit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.run(self._life.__aexit__(None, None, None))  # type: ignore[arg-type]
        self.run(self._loop.shutdown_asyncgens())
        self._loop.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.run(self.answer(request))  # type: ignore[no-any-return]

    async def answer(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        inner = httpx.Request(
            request.method, request.url, headers=request.headers, stream=_Chunks(content))
        response = await self._asgi.handle_async_request(inner)
        return httpx.Response(
            response.status_code, headers=response.headers, content=await response.aread())
