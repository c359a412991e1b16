"""The HTTP protocol of the server, with a limit on size and time of a request's head.

h11 limits the size only, httptools neither. With h11, the coordinator uses 10 to 21 % more CPU per
cycle (``benchmarks.load --mechanisms httptools``).
"""

import asyncio
from typing import Any

from searcher.api.http.limits import MOST_HEAD_BYTES, PAUSE_S


def http_protocol() -> Any:
    """The value for ``uvicorn.Config(http=...)``."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return "h11"

    class BoundedHead(HttpToolsProtocol):
        """Closes a connection whose head is too long or does not end within ``PAUSE_S``."""

        _head_bytes = 0
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)  # type: ignore[arg-type]
            self._timer = self.loop.call_later(PAUSE_S, self._time_out)

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            in_head = self._timer is not None
            super().data_received(data)
            if self._timer is None or self.transport.is_closing():
                return
            # If the head began within this read, the bytes before it are not counted.
            self._head_bytes = self._head_bytes + len(data) if in_head else 0
            if self._head_bytes > MOST_HEAD_BYTES:
                self.send_400_response("Address and headers are too long.")

        def on_message_begin(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(PAUSE_S, self._time_out)
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._cancel_timer()
            super().on_headers_complete()

        def _cancel_timer(self) -> None:
            self._head_bytes = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _time_out(self) -> None:
            self._timer = None
            self.transport.close()

    return BoundedHead
