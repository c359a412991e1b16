"""The progress of a measuring child, in a few bytes of memory shared with its parent."""

import mmap
import os
import struct
from typing import Tuple

NO_SESSION = -1
OPENING, RUNNING, RESTING = 0, 1, 2
_LAYOUT = struct.Struct("<qqq")
_FOLDERS = ("/dev/shm", "/tmp", ".")


def create_shared_file() -> int:
    """The descriptor of an empty, unnamed file, in memory if possible. Raises OSError."""
    in_memory = getattr(os, "memfd_create", None)  # Linux, Python 3.8 or newer
    if in_memory is not None:
        return int(in_memory("fleetfront"))
    for folder in _FOLDERS:
        path = os.path.join(folder, "fleetfront-{}".format(os.getpid()))
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            trouble = error
            continue
        os.unlink(path)
        return descriptor
    raise trouble


class SharedProgress:
    """The current session (``NO_SESSION`` while the child starts), its activity (opening, running
    or resting), and a counter of steps. The child writes it, the parent reads it."""

    def __init__(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size < _LAYOUT.size:
            os.write(descriptor, _LAYOUT.pack(NO_SESSION, OPENING, 0))
        self._memory = mmap.mmap(descriptor, _LAYOUT.size)
        self._count = 0

    def write(self, index: int, doing: int) -> None:
        self._count += 1
        _LAYOUT.pack_into(self._memory, 0, index, doing, self._count)

    def read(self) -> Tuple[int, int, int]:
        index, doing, count = _LAYOUT.unpack_from(self._memory, 0)
        return int(index), int(doing), int(count)

    def close(self) -> None:
        self._memory.close()
