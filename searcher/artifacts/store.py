"""Files by content: ``folder/<sha256>``, written, synced, renamed.

A file that is being written has no reader; its name is ``.<sha256>.<writer>``.
"""

import hashlib
import os
from pathlib import Path

LEFTOVER_S = 86_400.0
"""Age after which no writer continues an unfinished file."""


def place_artifact(folder: Path, content: bytes) -> Path:
    """``folder/<sha256>`` by write, fsync, rename; the same content twice is one file, whose
    time of change tells eviction that it is in use."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(content).hexdigest()
    try:
        os.utime(path)
    except FileNotFoundError:
        partial = folder / f".{path.name}.{os.getpid()}"
        try:
            partial.write_bytes(content)
            settle(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return path


def settle(partial: Path, path: Path) -> None:
    """Make a written file durable under its name; a reader sees all of it or nothing."""
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sweep(folder: Path, now_s: float) -> list[str]:
    """Removes files left unfinished over a day ago; returns their names."""
    removed = []
    for path in folder.glob(".*"):
        if path.is_file() and now_s - path.stat().st_mtime > LEFTOVER_S:
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed
