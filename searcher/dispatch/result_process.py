"""The judge (see ``searcher/dispatch/result_worker.py``): results in, drafts out, until the
coordinator ends.

A kill costs nothing but time: what it was asked is judged elsewhere, and it holds nothing.
"""

import argparse
import gc
import marshal
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlite_utils import Database

import searcher.statistics.latency  # noqa: F401 - numpy and scipy: the first result must not wait for them
from searcher.dispatch.result_worker import LENGTH, messages
from searcher.jobs import results
from searcher.ledger.read_only import open_ledger
from searcher.ledger.tables import jobs
from searcher.workers.parent_death import die_with_parent

READ_BYTES = 2**18
NICE = 5
"""Whoever asks for a lease waits for the coordinator, nobody for a draft: on a busy core it comes
first."""


def judged(db: Database, job_id: int, content: bytes, now_s: float) -> tuple[Any, ...] | None:
    """A ``Draft`` as a plain tuple, or None."""
    job = jobs.get(db, job_id)
    draft = None if job is None else results.drafted(db, job, content, now_s)
    return None if draft is None else tuple(draft)


def _asked(link: socket.socket) -> Iterator[list[bytes]]:
    """What has come together, until the other end closes."""
    buffer = bytearray()
    while piece := link.recv(READ_BYTES):
        buffer += piece
        yield messages(buffer)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m searcher.dispatch.result_process")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    options = parser.parse_args(arguments)
    die_with_parent(options.parent_pid)
    # Whoever stops the coordinator stops this with it, when its last results are in.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICE)
    gc.freeze()  # what was imported stays, and is walked over no more
    with socket.socket(fileno=options.socket) as link, open_ledger(options.ledger) as db:
        for together in _asked(link):
            answers = []
            for message in together:
                number, job_id, content, now_s = marshal.loads(message)
                answer = marshal.dumps((number, judged(db, job_id, content, now_s)))
                answers.append(LENGTH.pack(len(answer)) + answer)
            link.sendall(b"".join(answers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
