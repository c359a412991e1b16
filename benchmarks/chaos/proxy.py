"""HTTP proxy between the coordinator and all its clients: injects faults and writes the journal.

    client ──request──> [drop | cut | hold | repeat] ──> coordinator
    client <──answer─── [drop | cut] <── journal <────── coordinator

The journal records a response when the coordinator has sent it, even if the client never gets it.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agents.protocol import content_sha256
from benchmarks.chaos.journal import Exchange, Journal, document, split_target, unpacked
from benchmarks.chaos.messages import HEAD_LIMIT_BYTES, Broken, Message, read_message

FAULTS = ("request dropped", "request cut", "request delayed", "request duplicated",
          "requests reordered", "answer dropped", "answer cut")
KINDS = {"/v1/lease": "lease", "/v1/heartbeat": "heartbeat", "/v1/results/": "result"}
AIMS = {"lease": 3, "heartbeat": 2, "result": 3, "other": 3}
"""Weight of each kind of request as the target of a fault: the critical kinds are rare."""
AIMED_FOR_S = 1.5
"""After this time without a request of the target kind, the fault applies to any request."""
DELAY_S, LONG_DELAY_S, LONG_SHARE = (0.05, 1.0), (3.5, 4.5), 0.08
OVERTAKEN_WITHIN_S = 2.0
COPY_LATE_S = 1.5
SHOWN = ("job", "key", "kind", "attempt", "fence", "state", "id", "recipe", "created", "verdict",
         "accepted", "error", "jobs", "result", "campaign", "name")
"""Fields of a response that the journal keeps."""


@dataclass(frozen=True)
class Upstream:
    """Port of a running coordinator and its current operator token."""

    port: int
    token: str


@dataclass
class _Armed:
    fault: str
    aim: str
    since_s: float


class Proxy:
    """``upstream()`` is the running coordinator, or None. ``operators`` maps placeholder secrets to
    names: the proxy replaces a placeholder by the coordinator's current operator token."""

    def __init__(self, upstream: Callable[[], Upstream | None], journal: Journal,
                 draw: random.Random, operators: Mapping[str, str]) -> None:
        self._upstream, self._journal, self._draw = upstream, journal, draw
        self._operators = dict(operators)
        self._armed: deque[_Armed] = deque()
        self.injected: Counter[str] = Counter()
        self._passed = asyncio.Event()
        self._number = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Starts to listen on loopback and returns the port."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=HEAD_LIMIT_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, fault: str, aim: str | None = None) -> None:
        """Applies ``fault`` to the next request of the kind ``aim`` (None: a random kind)."""
        aim = aim or self._draw.choices(list(AIMS), list(AIMS.values()))[0]
        self._armed.append(_Armed(fault, aim, time.monotonic()))

    @property
    def waiting(self) -> int:
        """Number of armed faults that were not yet applied."""
        return len(self._armed)

    def disarm(self) -> None:
        self._armed.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._until_done(task)
        try:
            while (request := await read_message(reader)) is not None:
                if not await self._exchange(request, reader, writer):
                    break
        except (Broken, OSError):
            pass
        finally:
            writer.close()

    def _until_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fault_for(self, request: Message) -> str | None:
        path = request.target
        kind = next((k for prefix, k in KINDS.items() if path.startswith(prefix)), "other")
        late_s = time.monotonic() - AIMED_FOR_S
        for armed in self._armed:
            if armed.aim == kind or armed.since_s < late_s:
                self._armed.remove(armed)
                self.injected[armed.fault] += 1
                return armed.fault
        return None

    async def _exchange(self, request: Message, reader: asyncio.StreamReader,
                        writer: asyncio.StreamWriter) -> bool:
        """Whether the client's connection stays open."""
        fault = self._fault_for(request)
        if fault == "request dropped":
            return False
        if fault == "request cut":
            await self._cut_request(request)
            return False
        if fault == "request delayed":
            await asyncio.sleep(self._draw.uniform(
                *(LONG_DELAY_S if self._draw.random() < LONG_SHARE else DELAY_S)))
        if fault == "requests reordered":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._passed.wait(), OVERTAKEN_WITHIN_S)
        if fault == "request duplicated":
            self._until_done(asyncio.create_task(self._copy(request)))
        answer = await self._while_connected(
            self._forward(request, fault, fault not in ("answer dropped", "answer cut")), reader)
        if answer is None or fault == "answer dropped":
            return False
        content = answer.encoded()
        if fault == "answer cut":
            content = content[:self._draw.randrange(1, len(content))]
        writer.write(content)
        await writer.drain()
        return fault != "answer cut" and answer.headers.get("connection") != "close"

    async def _while_connected(self, forwarding: Any, reader: asyncio.StreamReader
                               ) -> Message | None:
        """The response; the request is cancelled when the client disconnects."""
        forward = asyncio.create_task(forwarding)
        gone = asyncio.create_task(reader.read(1))
        await asyncio.wait({forward, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, forward):
            if not task.done():
                task.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await gone
        try:
            return await forward  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            return None

    async def _copy(self, request: Message) -> None:
        await asyncio.sleep(self._draw.choice((0.0, self._draw.uniform(0, COPY_LATE_S))))
        with contextlib.suppress(TimeoutError):
            # The response to a copy is discarded: a copied long poll must not stay open.
            await asyncio.wait_for(self._forward(request, "copy", False), 5.0)

    async def _forward(self, request: Message, fault: str | None, passed: bool
                       ) -> Message | None:
        """The coordinator's response, also written to the journal; None without one."""
        self._number += 1
        seen = self._described(request, fault)
        answer = None
        try:
            answer = await self._ask(request)
        except (OSError, Broken):
            pass
        finally:
            self._journal.write(_with_answer(seen, answer, passed))
        self._passed.set()
        self._passed.clear()
        return answer

    async def _ask(self, request: Message) -> Message | None:
        content = self._addressed(request)
        if content is None:
            return None
        reader, writer = await asyncio.open_connection("127.0.0.1", content[0])
        try:
            writer.write(content[1])
            await writer.drain()
            return await read_message(reader)
        finally:
            writer.close()

    async def _cut_request(self, request: Message) -> None:
        content = self._addressed(request)
        if content is None:
            return
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", content[0])
            writer.write(content[1][:self._draw.randrange(1, len(content[1]))])
            await writer.drain()
            writer.close()

    def _addressed(self, request: Message) -> tuple[int, bytes] | None:
        """Port and bytes; a placeholder secret is replaced by the current operator token."""
        upstream = self._upstream()
        if upstream is None:
            return None
        changes = {"connection": "close"}
        if _secret(request) in self._operators:
            changes["authorization"] = f"Bearer {upstream.token}"
        return upstream.port, request.encoded(**changes)

    def _described(self, request: Message, fault: str | None) -> Exchange:
        secret = _secret(request)
        who = self._operators.get(secret) or content_sha256(secret.encode())[:12]
        path, query = split_target(request.target)
        body = unpacked(request.body, request.headers.get("content-encoding", ""))
        is_result = path.startswith("/v1/results/")
        return Exchange(
            self._number, who, request.method, path, query, time.monotonic(),
            request=None if is_result or not body else document(body),
            sha256=self._journal.keep_body(body) if is_result else None, fault=fault)


def _secret(request: Message) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _with_answer(seen: Exchange, answer: Message | None, passed: bool) -> Exchange:
    if answer is None:
        return seen
    content = document(answer.body) if not seen.path.startswith("/v1/artifacts/") else None
    if isinstance(content, dict):
        content = {name: content[name] for name in SHOWN if name in content}
    return replace(seen, received_s=time.monotonic(), status=answer.status, passed=passed,
                   answer=content)
