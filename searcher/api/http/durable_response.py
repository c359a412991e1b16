"""Holds every answer until all writes that it may have seen are on the disk.

    request a   |handler, grouped write|.................|answer|
    request b        |handler, grouped write|............|answer|
    ledger      |BEGIN ................ commit_after_s ..COMMIT|

Answers of reading requests wait too: otherwise they could show a write that is then rolled back.
With one commit per write, the coordinator uses up to 20 % more CPU per cycle at 100 agents and 60
to 150 % more at 1000 connections (``benchmarks.load --mechanisms grouped-commits``).
"""

import asyncio
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from searcher.errors import LedgerError
from searcher.ledger.store import LedgerFull, Store, WriteBatch

COMMIT_AFTER_S = 0.01
"""Seconds for which a batch collects writes. A commit of two writes takes nearly as long as one of
twenty."""


def commit_soon(store: Store, loop: asyncio.AbstractEventLoop,
                failed: Callable[[LedgerError], None]) -> None:
    """Let ``store`` group its commits, in ``loop``."""

    def commit(batch: WriteBatch) -> None:
        if store.batch is batch:
            try:
                store.commit()
            except LedgerError as error:
                failed(error)

    def opened(batch: WriteBatch) -> None:
        loop.call_later(COMMIT_AFTER_S, commit, batch)

    store.opened = opened


async def ended(batch: WriteBatch) -> None:
    """Return when ``batch`` is on the disk. Raises its LedgerError otherwise."""
    if not batch.ended:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        batch.when_ended(lambda: None if done.done() else done.set_result(None))
        await done
    if batch.error is not None:
        raise batch.error


def refusal_of(error: LedgerError) -> JSONResponse:
    """507 when the disk is full, otherwise 503; the client may repeat the request."""
    return JSONResponse({"error": str(error)}, 507 if isinstance(error, LedgerFull) else 503)


class Durable:
    """ASGI middleware that holds the start of every answer until the open batch has ended."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self._app, self._store = app, store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = False

        async def held(message: Message) -> None:
            nonlocal refused
            if refused:
                return
            batch = self._store.batch
            if message["type"] == "http.response.start" and batch is not None:
                try:
                    await ended(batch)
                except LedgerError as error:
                    refused = True
                    await refusal_of(error)(scope, receive, send)
                    return
            await send(message)

        await self._app(scope, receive, held)
