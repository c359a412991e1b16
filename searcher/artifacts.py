"""Files by content: ``folder/<sha256>``."""

import hashlib
import os
from pathlib import Path


def place_artifact(folder: Path, content: bytes) -> Path:
    """``folder/<sha256>`` by write, fsync, rename; the same content twice is one file, whose time
    tells whoever bounds the disk that it is wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(content).hexdigest()
    try:
        os.utime(path)
    except FileNotFoundError:
        partial = folder / f".{path.name}.{os.getpid()}"
        try:
            with partial.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return path
