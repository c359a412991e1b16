"""Responses are sent after the commit; one commit serves many responses."""

import asyncio
from pathlib import Path

from starlette.types import Message, Receive, Scope, Send

from searcher.api.http.durable_response import COMMIT_AFTER_S, Durable, commit_soon
from searcher.errors import LedgerError
from searcher.ledger.store import Store, next_number
from tests.searcher_tests.ledger.test_store import fence

SCOPE = {"type": "http", "method": "PUT", "path": "/", "headers": []}


class Writer:
    """An app that increments a counter in the ledger and returns the value that a reader sees."""

    def __init__(self, store: Store, breaks: bool = False) -> None:
        self.store, self.breaks = store, breaks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.store.grouped() as db:
            next_number(db, "fence")
            if self.breaks:
                db.execute("PRAGMA defer_foreign_keys = ON")
                db.execute("INSERT OR IGNORE INTO job_requests VALUES ('nobody', 5)")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def answers(store: Store, count: int, breaks: bool = False) -> list[tuple[int, int]]:
    """(status, fence on the disk) as ``count`` callers at once see them."""
    failures: list[LedgerError] = []
    commit_soon(store, asyncio.get_running_loop(), failures.append)
    app, seen = Durable(Writer(store, breaks), store), []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.append((message["status"], fence(store.path)))

    await asyncio.gather(*(app(dict(SCOPE), receive, send) for _ in range(count)))
    assert len(failures) == int(breaks)
    return seen


def test_one_commit_carries_every_answer_of_its_batch(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    committed: list[str] = []
    store.db.conn.set_trace_callback(committed.append)
    assert asyncio.run(answers(store, 20)) == [(200, 20)] * 20
    assert committed.count("COMMIT") == 1 and COMMIT_AFTER_S > 0
    store.opened = None
    store.close()


def test_a_batch_that_fails_refuses_all_of_its_answers(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")
    assert asyncio.run(answers(store, 3, breaks=True)) == [(503, 0)] * 3
    store.opened = None
    with store.atomic() as db:
        assert next_number(db, "fence") == 1, "it goes on"
    store.close()


def test_an_answer_that_wrote_nothing_waits_for_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "ledger.db")

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def asked() -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await Durable(plain, store)(dict(SCOPE), send, send)  # type: ignore[arg-type]
        return sent

    assert [m["status"] for m in asyncio.run(asked())] == [204]
    store.close()
