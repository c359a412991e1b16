"""Resident memory of one process, from ``/proc/PID/status``.

``VmHWM`` is reset by exec, unlike ``ru_maxrss``, which a child inherits from its parent. It
includes the touched pages of mapped files.
"""

from typing import List, Optional

from agents.meters.base import Meter, MeterReading
from agents.platform.sysfs import SystemTree


class MemoryMeter(Meter):
    """``rss_bytes`` is the present resident memory, ``peak_bytes`` its maximum since exec."""

    name = "memory"

    def __init__(self, root: str = "/", pid: str = "self") -> None:
        self._tree = SystemTree(root)
        self._path = "/proc/{}/status".format(pid)

    def problem(self) -> Optional[str]:
        if self._bytes("VmHWM") is not None and self._bytes("VmRSS") is not None:
            return None
        return ("{} has no VmHWM: peak memory can be measured on Linux with /proc mounted only"
                .format(self._path))

    def readings(self) -> List[MeterReading]:
        return [MeterReading("rss_bytes", float(self._bytes("VmRSS") or 0), "bytes", self._path),
                MeterReading("peak_bytes", float(self._bytes("VmHWM") or 0), "bytes", self._path)]

    def _bytes(self, key: str) -> Optional[int]:
        return self._tree.kibibytes(self._path, key)
