"""Durable files (write, fsync, rename) and folders locked by one process."""

import errno
import os
from typing import IO, Optional

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a file system that is full."""


class SpoolInUse(Exception):
    """Another agent uses this folder."""


def write_durably(path: str, content: bytes, mode: int = 0o600) -> None:
    """Writes ``path`` atomically and durably. Raises OSError and leaves no partial file."""
    partial = path + ".new"
    stage(partial, content, mode)
    replace(partial, path)


def stage(partial: str, content: bytes, mode: int) -> None:
    """Writes ``partial`` durably, for a later ``replace``. Raises OSError and leaves no file."""
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, mode)
    except OSError:
        discard(partial)
        raise


def replace(partial: str, path: str) -> None:
    """Renames ``partial`` to ``path`` durably. Raises OSError and leaves no partial file."""
    try:
        os.replace(partial, path)
    except OSError:
        discard(partial)
        raise
    sync_folder(os.path.dirname(path))


def discard(path: str) -> None:
    """Removes a file if it exists. Does not raise."""
    try:
        os.unlink(path)
    except OSError:
        pass  # absent, or on a read-only file system


def sync_folder(folder: str) -> None:
    handle = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FolderLock:
    """An exclusive lock of a folder, until ``release`` or the end of the process."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def release(self) -> None:
        self._stream.close()

    def keep_over_exec(self) -> int:
        """Lets the program that this process executes next hold the lock; returns its
        descriptor."""
        os.set_inheritable(self._stream.fileno(), True)
        return self._stream.fileno()


def lock_folder(folder: str, kept: Optional[int] = None) -> FolderLock:
    """Locks ``folder/lock``. ``kept`` is the descriptor that ``keep_over_exec`` returned before
    this program was executed, if any. Raises SpoolInUse."""
    path = os.path.join(folder, "lock")
    if kept is not None and _is_open_file(kept, path):
        os.set_inheritable(kept, False)  # or measuring children would inherit the lock
        stream: IO[bytes] = os.fdopen(kept, "wb")
    else:
        stream = open(path, "wb")
    try:
        import fcntl
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass  # not on Windows
    except OSError:
        stream.close()
        raise SpoolInUse("Another agent already uses {}: stop it, or give this one another "
                         "folder with --spool.".format(folder)) from None
    return FolderLock(stream)


def _is_open_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
