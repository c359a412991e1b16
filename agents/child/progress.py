"""Where a measuring child is: a few bytes of memory that it shares with its parent."""

import mmap
import os
import struct
from typing import Tuple

NOBODY = -1
OPENING, RUNNING, RESTING = 0, 1, 2
_LAYOUT = struct.Struct("<qqq")
_FOLDERS = ("/dev/shm", "/tmp", ".")


def shared_file() -> int:
    """The descriptor of an empty file without a name, in memory where that can be. Raises OSError.
    """
    in_memory = getattr(os, "memfd_create", None)  # on Linux, from Python 3.8 on
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


class Position:
    """Who is at work: session index (``NOBODY`` while starting), opening, running or resting, and
    a count that changes whenever something went on. The child writes it, the parent reads it."""

    def __init__(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size < _LAYOUT.size:
            os.write(descriptor, _LAYOUT.pack(NOBODY, OPENING, 0))
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
