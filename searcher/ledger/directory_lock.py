"""A file lock that gives a folder one owner: the coordinator, or a command that builds there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from searcher.errors import UserError


@contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Hold ``directory/lock`` in the block. The kernel releases it when the process ends.

    Raises UserError that names the process which holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise UserError(
                f"{directory} belongs to the running process {holder}. Wait for it, stop it, or "
                "name another --dir."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
