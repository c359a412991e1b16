"""Files that survive a power cut: write, fsync, rename. And folders that have one owner."""

import errno
import os
from typing import IO, Optional

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a file system says that takes no more bytes."""


class SpoolInUse(Exception):
    """Another agent works in this folder."""


def write_durably(path: str, content: bytes, mode: int = 0o600) -> None:
    """Replaces ``path`` as a whole or not at all. Raises OSError, leaving no partial file."""
    partial = path + ".new"
    stage(partial, content, mode)
    replace(partial, path)


def stage(partial: str, content: bytes, mode: int) -> None:
    """The first half: ``partial`` is on the disk. Raises OSError, leaving no file."""
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
    """The second half: ``path`` is what ``partial`` was. Raises OSError, leaving no partial."""
    try:
        os.replace(partial, path)
    except OSError:
        discard(partial)
        raise
    sync_folder(os.path.dirname(path))


def discard(path: str) -> None:
    """Removes a file that may be there."""
    try:
        os.unlink(path)
    except OSError:
        pass  # it is not there, or nothing can be written here anyway


def sync_folder(folder: str) -> None:
    handle = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FolderLock:
    """One owner for a folder, until ``release`` or the end of the process."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def release(self) -> None:
        self._stream.close()

    def keep_over_exec(self) -> int:
        """The descriptor by which the next program of this process goes on holding the lock."""
        os.set_inheritable(self._stream.fileno(), True)
        return self._stream.fileno()


def lock_folder(folder: str, kept: Optional[int] = None) -> FolderLock:
    """Locks ``folder/lock``. ``kept`` is what ``keep_over_exec`` gave in this process, if it did.

    Raises SpoolInUse.
    """
    path = os.path.join(folder, "lock")
    if kept is not None and _is_open_file(kept, path):
        os.set_inheritable(kept, False)  # or measuring children would hold the lock too
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
        raise SpoolInUse("Another agent already works in {}: stop it, or give this one another "
                         "folder with --spool.".format(folder)) from None
    return FolderLock(stream)


def _is_open_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
