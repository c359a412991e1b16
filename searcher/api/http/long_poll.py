"""Notifications by topic, for requests that wait for a change (long polls)."""

import asyncio


class Notifications:
    """Wakes all tasks that wait for a topic. For use within one event loop.

    A task that checks a condition and then calls ``wait`` misses no notification, provided that it
    does not ``await`` anything in between.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self.closing = False

    def publish(self, topic: str) -> bool:
        """Wake all tasks that wait for ``topic``. Returns whether there were any."""
        waiting = self._waiting.pop(topic, ())
        for future in waiting:
            if not future.done():
                future.set_result(None)
        return bool(waiting)

    def close(self) -> None:
        """Wake all tasks, and let no task wait from now on: the server stops."""
        self.closing = True
        for topic in list(self._waiting):
            self.publish(topic)

    async def wait(self, topic: str, timeout_s: float) -> None:
        """Return at the next notification on ``topic``, or after ``timeout_s``."""
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
