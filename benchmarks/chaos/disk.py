"""A separate file system for the ledger, which can be filled and remounted read-only."""

import contextlib
import ctypes
import errno
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

DISK_BYTES = 192 << 20
MS_RDONLY, MS_REMOUNT, MNT_DETACH = 1, 32, 2
LIBC = ctypes.CDLL(None, use_errno=True)
RELEASED_WITHIN_S = 3.0


class SmallDisk:
    """A tmpfs at ``folder``. Without the right to mount, an ordinary folder (``mounted`` False)."""

    def __init__(self, folder: Path, size_bytes: int = DISK_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._options = f"size={size_bytes}".encode()
        self.mounted = self._mount(0)
        self._ballast = folder / "ballast"

    def _mount(self, flags: int) -> bool:
        mounted: int = LIBC.mount(b"tmpfs", bytes(self.folder), b"tmpfs", flags, self._options)
        return mounted == 0

    def fill(self) -> None:
        """Allocates all free space."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT)
        try:
            for size in (16 << 20, 1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, size)
        finally:
            os.close(descriptor)

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def read_only(self, yes: bool) -> bool:
        """Remounts read-only or writable. False when a process keeps a file open for writing for
        ``RELEASED_WITHIN_S``."""
        ends_s = time.monotonic() + RELEASED_WITHIN_S
        while not self._mount(MS_REMOUNT | (MS_RDONLY if yes else 0)):
            if ctypes.get_errno() != errno.EBUSY or time.monotonic() > ends_s:
                return False
            time.sleep(0.005)
        return True

    def close(self) -> None:
        if self.mounted:
            LIBC.umount2(bytes(self.folder), MNT_DETACH)


def forbid_growth(processes: Sequence[psutil.Process], forbidden: bool) -> None:
    """While ``forbidden``, all file writes of these processes fail (RLIMIT_FSIZE 0)."""
    limit = 0 if forbidden else resource.RLIM_INFINITY
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.rlimit(psutil.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
