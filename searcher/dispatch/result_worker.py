"""Measurements are judged in a process of their own: reading a result, its intervals and parity
cost several times what storing it does, and the coordinator has one thread.

    coordinator |result|......................|fence checked, draft stored|commit|answer|
    judge              |read, judge: a draft |

The judge reads the ledger and never writes. It owes nobody anything: what it does not answer, the
coordinator judges by itself.
"""

import asyncio
import logging
import marshal
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

from searcher.jobs.measure import Draft

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "searcher.dispatch.result_process")
ANSWER_WITHIN_S = 20.0
START_EVERY_S = 10.0
STOP_WITHIN_S = 2.0
LENGTH = struct.Struct("=I")
"""Before every message: its length. A message is a tuple, as ``marshal`` writes it: number, job,
content and time there; number and draft, or None, back. Both ends are this program."""


class Judge:
    """The process and what it was asked; use inside one event loop."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._process: subprocess.Popen[bytes] | None = None
        self._link: _Link | None = None
        self._started_s = -START_EVERY_S
        self._stopped = False

    async def start(self) -> None:
        """Begin, or begin anew, unless that was tried just now."""
        loop = asyncio.get_running_loop()
        if self._stopped or loop.time() - self._started_s < START_EVERY_S:
            return
        self._started_s = loop.time()
        self._end_process()
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [*COMMAND, "--ledger", str(self._ledger), "--socket", str(theirs.fileno()),
                 "--parent-pid", str(os.getpid())],
                stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
        except OSError as error:
            log.warning("the judge cannot be started (%s); results are judged here", error)
            ours.close()
            return
        finally:
            theirs.close()
        _, self._link = await loop.create_connection(_Link, sock=ours)

    async def draft(self, job: int, content: bytes, now_s: float) -> Draft | None:
        """What is to be stored of the result ``content``; None when the coordinator must look for
        itself."""
        if self._link is None or self._link.closed:
            await self.start()
        if self._link is None or self._link.closed:
            return None
        return await self._link.ask(job, content, now_s)

    def stop(self) -> None:
        """For good; what is still asked is answered None."""
        self._stopped = True
        self._end_process()

    def _end_process(self) -> None:
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_WITHIN_S)
        self._link = self._process = None


class _Link(asyncio.Protocol):
    """Questions and answers over one socket, matched by number."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._asked: dict[int, asyncio.Future[Draft | None]] = {}
        self._number, self._answered = 0, 0
        self._buffer = bytearray()
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._watch(-1)

    def ask(self, job: int, content: bytes, now_s: float) -> asyncio.Future[Draft | None]:
        assert self._transport is not None
        self._number += 1
        answer = asyncio.get_running_loop().create_future()
        self._asked[self._number] = answer
        message = marshal.dumps((self._number, job, content, now_s))
        self._transport.write(LENGTH.pack(len(message)) + message)
        return answer

    def data_received(self, piece: bytes) -> None:
        self._buffer += piece
        for message in messages(self._buffer):
            number, draft = marshal.loads(message)
            self._answered += 1
            answer = self._asked.pop(number)
            if not answer.done():
                answer.set_result(None if draft is None else Draft(*draft))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed:
            log.warning("the judge ended; results are judged in the coordinator until it is back")
        self.close()

    def close(self) -> None:
        self.closed = True
        if self._patience is not None:
            self._patience.cancel()
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            if not answer.done():
                answer.set_result(None)
        if self._transport is not None:
            self._transport.abort()

    def _watch(self, answered: int) -> None:
        """Give up a judge that has been asked and answered nothing since the last look."""
        if self._asked and answered == self._answered:
            self.connection_lost(None)
            return
        now = self._answered if self._asked else -1
        self._patience = asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, self._watch, now)


def messages(buffer: bytearray) -> list[bytes]:
    """The complete messages at the start of ``buffer``, which are taken out of it."""
    found, at = [], 0
    while len(buffer) - at >= LENGTH.size:
        length = LENGTH.unpack_from(buffer, at)[0]
        end = at + LENGTH.size + length
        if end > len(buffer):
            break
        found.append(bytes(memoryview(buffer)[at + LENGTH.size:end]))
        at = end
    del buffer[:at]
    return found
