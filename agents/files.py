"""Files that survive a power cut: write, fsync, rename."""

import os
from typing import Any, Callable


class SpoolInUse(Exception):
    """Another agent works in this folder."""


def write_durably(path: str, content: bytes, mode: int = 0o600) -> None:
    """Replaces ``path`` as a whole or not at all. Raises OSError, leaving no partial file."""
    partial = path + ".new"
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, mode)
        os.replace(partial, path)
    except OSError:
        if os.path.exists(partial):
            os.unlink(partial)
        raise
    sync_folder(os.path.dirname(path))


def sync_folder(folder: str) -> None:
    handle = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_folder(folder: str) -> Callable[[], None]:
    """Holds ``folder/lock`` until the returned function is called or the process ends.

    Raises SpoolInUse.
    """
    stream: Any = open(os.path.join(folder, "lock"), "w")
    try:
        import fcntl
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass  # not on Windows
    except OSError:
        stream.close()
        raise SpoolInUse("Another agent already works in {}: stop it, or give this one another "
                         "folder with --spool.".format(folder)) from None
    close: Callable[[], None] = stream.close
    return close
