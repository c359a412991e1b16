"""Long interleaved ratio of two files, as a reference; computed without code of fleetfront.

    piece 0: a process | open A, B | A B B A A B ... | open B, A | A B B A ... | ratio A / B
    piece 1: another   | open B, A | B A A B B A ... | open A, B | B A A B ... | ratio A / B

A process has a bias due to its memory layout, which a longer loop does not reduce, and which partly
depends on the file that is opened first. Each piece is therefore a separate process, the files swap
roles from piece to piece, and the error of the mean is computed from pairs of pieces. The state of
the machine changes within minutes. The pieces are therefore interleaved with the measurements that
they are compared with.

    python -m benchmarks.measurement.reference A.onnx B.onnx      one piece: prints the ratio
"""

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from benchmarks.measurement.models import opened, timed

SESSION_S, WARM_S = 0.5, 0.02


@dataclass(frozen=True)
class Reference:
    """Geometric mean of the ratios of ``n`` pieces; ``error`` is its relative standard error."""

    ratio: float
    error: float
    n: int


def reference(pieces: Sequence[float]) -> Reference:
    """Combines at least four pieces in the order of their numbers; ignores an unpaired last one."""
    pairs = zip(pieces[::2], pieces[1::2], strict=False)
    logs = [math.log(one * other) / 2 for one, other in pairs]
    return Reference(math.exp(mean(logs)), stdev(logs) / math.sqrt(len(logs)), 2 * len(logs))


def piece(first: Path, second: Path, number: int) -> float:
    """Ratio of the times first / second, measured in a new process."""
    if number % 2:
        return 1 / piece(second, first, 0)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measurement.reference", str(first), str(second)],
        check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def in_turn(first: Path, second: Path, session_s: float = SESSION_S) -> float:
    """Ratio of the times first / second from alternating single calls. The file opened first may be
    slower; the result is the geometric mean over both orders of opening."""
    ratios = []
    for other_first in (False, True):
        calls: dict[Path, Any] = {}
        for path in (second, first) if other_first else (first, second):
            calls[path] = opened(path)
        for call in calls.values():
            timed(call, WARM_S)
        times: dict[Path, list[float]] = {first: [], second: []}
        end, turn = time.perf_counter() + session_s, 0
        while time.perf_counter() < end:
            for path in (first, second) if turn % 2 == 0 else (second, first):
                before = time.perf_counter()
                calls[path]()
                times[path].append(time.perf_counter() - before)
            turn += 1
        ratios.append(median(times[first]) / median(times[second]))
    return math.sqrt(ratios[0] * ratios[1])


if __name__ == "__main__":
    print(in_turn(Path(sys.argv[1]), Path(sys.argv[2])))
