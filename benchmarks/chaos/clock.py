"""A wall clock with an offset for single processes (LD_PRELOAD); the machine's clock is unchanged.
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
OFFSET = struct.Struct("<q")


class Clock:
    """``environment`` makes a process use this clock. ``works`` is False without Linux or without
    a C compiler for the library."""

    def __init__(self, folder: Path) -> None:
        self._file, library = folder / "clock", folder / "clock.so"
        self._file.write_bytes(OFFSET.pack(0))
        compiler = shutil.which("cc") or shutil.which("gcc")
        self.works = compiler is not None and subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"],
            capture_output=True, check=False).returncode == 0
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)} \
            if self.works else {}

    def jump_to(self, offset_s: float) -> None:
        """Sets the offset from the machine's clock; positive is ahead."""
        with self._file.open("r+b") as file:
            os.pwrite(file.fileno(), OFFSET.pack(round(offset_s * 1e9)), 0)
