"""Long polls: waiting for a topic to ring, without polling."""

import asyncio


class Bells:
    """Wakes everyone who waits for a topic; used inside one event loop.

    Nothing is missed between looking and waiting as long as no ``await`` lies between them.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self.closing = False

    def ring(self, topic: str) -> bool:
        """Whether there was someone to wake."""
        waiting = self._waiting.pop(topic, ())
        for future in waiting:
            if not future.done():
                future.set_result(None)
        return bool(waiting)

    def close(self) -> None:
        """Wake everyone for good: the server stops."""
        self.closing = True
        for topic in list(self._waiting):
            self.ring(topic)

    async def wait(self, topic: str, timeout_s: float) -> None:
        """Return when ``topic`` rings, or after ``timeout_s``."""
        if self.closing or timeout_s <= 0:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(topic, set()).add(future)
        timer = loop.call_later(timeout_s, _wake, future)
        try:
            await future
        finally:
            timer.cancel()
            waiting = self._waiting.get(topic)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[topic]


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
