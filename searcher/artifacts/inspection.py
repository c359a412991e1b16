"""Inspection of an uploaded model: a child process of the builder reads it, within bounds.

    builder --- file ---> child (searcher.artifacts.inspection_process): memory, CPU and output
    limited
       ^                    |
       +--- facts, or why --+   a crash, a hang or a flood of memory costs the child only
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from searcher.artifacts.formats import registry
from searcher.errors import BuildError

_SLICE_S = 0.5
_TAIL_BYTES = 500


@dataclass(frozen=True)
class Bounds:
    """What reading one model may cost. Memory counts beyond what the libraries take."""

    cpu_s: int = 120
    wall_s: float = 300.0
    memory_bytes: int = 2**30
    memory_per_byte: int = 8

    def memory_for(self, file_bytes: int) -> int:
        return self.memory_bytes + self.memory_per_byte * file_bytes


def inspect(path: Path, bounds: Bounds | None = None,
            format_name: str = registry.DEFAULT) -> dict[str, object]:
    """The JSON object that the child printed: ``accepted`` with the facts of the model
    (``searcher.artifacts.formats.base.ModelFacts``), or not, with ``reason`` and ``message``.

    Raises BuildError when the inspection itself does not work, OSError when the file is gone.
    """
    bounds = bounds or Bounds()
    command = [
        sys.executable, "-m", "searcher.artifacts.inspection_process", str(path),
        "--format", format_name, "--memory-bytes", str(bounds.memory_for(path.stat().st_size)),
        "--cpu-s", str(bounds.cpu_s), "--parent-pid", str(os.getpid()),
    ]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=answer, stderr=complaints,
            env={**os.environ, **threads})
        try:
            code = _waited(child, bounds.wall_s)
        finally:
            child.kill()
            child.wait()
        answer.seek(0)
        complaints.seek(0)
        return _verdict(code, answer.read(), complaints.read().decode(errors="replace"), bounds)


def _waited(child: subprocess.Popen[bytes], wall_s: float) -> int | None:
    """The exit code; None after ``wall_s``, in which a pause for a quiet window hardly counts."""
    for _ in range(max(1, round(wall_s / _SLICE_S))):
        try:
            return child.wait(_SLICE_S)
        except subprocess.TimeoutExpired:
            continue
    return None


def _verdict(code: int | None, answer: bytes, complaints: str, bounds: Bounds) -> dict[str, object]:
    if code == 0:
        found: dict[str, object] = json.loads(answer)
        return found
    if code is None or code == -signal.SIGXCPU:
        return refusal("time", f"Reading it and one run took more than {bounds.cpu_s} s of "
                               f"computing or {bounds.wall_s:g} s in all.")
    if code == -signal.SIGKILL or "bad_alloc" in complaints or "MemoryError" in complaints:
        return refusal("memory", "Reading it and one run took more memory than a file of its size "
                                 "may need.")
    if code < 0:
        return refusal("crashed", f"The process that read it ended by {_signal(-code)}.")
    raise BuildError(f"The inspection failed with exit code {code}: {complaints[-_TAIL_BYTES:]}",
                     "inspection")


def refusal(reason: str, message: str) -> dict[str, object]:
    """``reason`` is one short stable word."""
    return {"accepted": False, "reason": reason, "message": message}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
