"""Disturbances of a measuring process on Linux, each with ``begin(pid)`` and ``end()``."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
PERIOD_US = 50_000


class BusyCore:
    """Another process computes during the whole window, on a core that the scheduler chooses."""

    def __init__(self, drawn: random.Random) -> None:
        self._other: subprocess.Popen[bytes] | None = None
        self._after_s = drawn.uniform(0.0, 0.4)

    def begin(self, pid: int) -> None:
        time.sleep(self._after_s)
        self._other = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def end(self) -> None:
        if self._other is not None:
            self._other.kill()
            self._other.wait()


class Stop:
    """The measuring process is stopped for some time within its window."""

    def __init__(self, drawn: random.Random) -> None:
        self._after_s, self._for_s = drawn.uniform(0.1, 0.9), drawn.uniform(0.08, 0.4)

    def begin(self, pid: int) -> None:
        time.sleep(self._after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._for_s)
            os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        """No process to stop: ``begin`` has sent SIGCONT."""


class Quota:
    """A separate cgroup limits the measuring process to a fraction of one core."""

    def __init__(self, drawn: random.Random) -> None:
        self._share = drawn.uniform(0.35, 0.85)
        self._group: Path | None = None

    @staticmethod
    def possible() -> bool:
        try:
            Quota._made().rmdir()
        except OSError:
            return False
        return True

    @staticmethod
    def _made() -> Path:
        folder = V1 if (V1 / "cpu.cfs_quota_us").exists() else V2
        group = folder / f"fleetfront-{os.getpid()}"
        group.mkdir()
        if not any((group / name).exists() for name in ("cpu.cfs_quota_us", "cpu.max")):
            group.rmdir()
            raise OSError("this cgroup has no CPU controller")
        return group

    def begin(self, pid: int) -> None:
        self._group = self._made()
        quota = int(self._share * PERIOD_US)
        if (self._group / "cpu.max").exists():
            (self._group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        else:
            (self._group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._group / "cpu.cfs_quota_us").write_text(str(quota))
        with contextlib.suppress(ProcessLookupError):
            (self._group / "cgroup.procs").write_text(str(pid))

    def end(self) -> None:
        if self._group is not None:
            self._group.rmdir()
