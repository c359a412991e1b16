"""A folder of files within a bound: the least recently used files are evicted first.

The time of last use is the file's modification time, which ``mark_used`` sets.
"""

import hashlib
import os
from typing import Callable

from agents.platform.files import discard

READ_BYTES = 1 << 20


def mark_used(path: str) -> None:
    """Sets the time of last use. A read-only file system is accepted: its files stay readable.

    Raises FileNotFoundError."""
    try:
        os.utime(path, None)
    except FileNotFoundError:
        raise
    except OSError:
        pass


def evict(folder: str, limit_bytes: int, is_pinned: Callable[[str], bool],
          suffix: str = "") -> None:
    """Removes the least recently used files of ``folder`` until they have ``limit_bytes`` at most.

    Counts and removes only names that end in ``suffix``; a name for which ``is_pinned`` is true
    counts and stays. Raises OSError if the folder cannot be read.
    """
    entries = []
    for name in os.listdir(folder):
        if name.endswith(suffix):
            status = os.stat(os.path.join(folder, name))
            entries.append((status.st_mtime, name, status.st_size))
    total_bytes = sum(size for _, _, size in entries)
    for _, name, size in sorted(entries):
        if total_bytes <= limit_bytes:
            return
        if not is_pinned(name):
            discard(os.path.join(folder, name))
            total_bytes -= size


def file_sha256(path: str) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for piece in iter(lambda: stream.read(READ_BYTES), b""):
            digest.update(piece)
    return digest.hexdigest()
