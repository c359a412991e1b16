"""A simulated machine with a simulated clock, and a folder as its /sys that follows this clock."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.child.progress import NO_SESSION
from agents.child.request import ChildRequest
from agents.measurement.child_process import Child, ChildProgress
from agents.protocol import as_json, pack_samples
from agents.timing.blocks import time_rounds

CALL_S = 0.8e-3
FULL_KHZ = 1_800_000
WINDOW_S = 1.5


class Board:
    """``speed(now_s)`` is the fraction of the full CPU clock, ``slow(now_s)`` another factor on the
    time of a call, ``throttled_s`` the time at which a throttle counter rises. The window begins
    at 0 s."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.noise = random.Random(seed)
        self.spread = self.noise.uniform(0.003, 0.012)
        self.speed: Callable[[float], float] = lambda now_s: 1.0
        self.slow: Callable[[float], float] = lambda now_s: 1.0
        self.throttled_s: float | None = None
        self.now_s = 0.0
        self._show()

    def clock(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self._show()

    def call_ns(self, at_s: float) -> int:
        """Duration of a call, with noise as in real loops and occasional interrupts."""
        spike = self.noise.uniform(1.1, 2.0) if self.noise.random() < 0.01 else 1.0
        stretch = self.slow(at_s) / self.speed(at_s)
        return int(CALL_S * stretch * spike * (1 + self.spread * self.noise.random()) * 1e9)

    def _show(self) -> None:
        cpu = "sys/devices/system/cpu"
        rose = self.throttled_s is not None and self.now_s >= self.throttled_s
        self._write(f"{cpu}/cpufreq/policy0/scaling_cur_freq",
                    int(FULL_KHZ * self.speed(self.now_s)))
        self._write(f"{cpu}/cpu0/cpufreq/scaling_governor", "performance")
        self._write(f"{cpu}/cpu0/thermal_throttle/core_throttle_count", 3 + rose)
        self._write("sys/class/thermal/thermal_zone0/temp", 48_000)

    def _write(self, path: str, content: object) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(f"{content}\n")


class SyntheticChild(Child):
    """Times all rounds at once on the simulated clock, and reports them when the parent's clock has
    reached that time."""

    def __init__(self, board: Board, request: ChildRequest) -> None:
        self._board, self._now_ns = board, 0
        if request.plan is None:
            raise ValueError("a request for pairs has no plan")
        rounds = time_rounds(
            lambda: [self._call] * len(request.indexes), request.plan, request.quiet_level_s,
            lambda: self._now_ns, lambda session: None)
        series = {str(index): dict(
            as_json(one.blocks()), samples=pack_samples(one.calls_ns),
            sample_blocks=one.calls_per_block, session_blocks=one.session_blocks)
            for index, one in zip(request.indexes[1:], rounds.series, strict=True)}
        self._events: list[dict[str, Any]] = [
            {"event": "ready", "versions": {"synthetic": "1"}},
            *({"event": "opened", "index": index, "load_s": 0.01, "first_s": 0.002,
               "provider": "CPUExecutionProvider", "outputs": [0.5]}
              for index in request.indexes),
            {"event": "rounds", "reference_s": rounds.reference_s, "series": series,
             "openings": rounds.openings},
            {"event": "end"}]

    def _call(self) -> None:
        self._now_ns += self._board.call_ns(self._now_ns * 1e-9)

    def next_event(self, timeout_s: float) -> dict[str, Any] | None:
        if self._board.now_s * 1e9 < self._now_ns:
            self._board.wait(timeout_s)
            return None
        return self._events.pop(0)

    def progress(self) -> ChildProgress:
        # The progress changes constantly, so that the child does not count as hanging.
        return ChildProgress(NO_SESSION, True, int(self._board.now_s * 1e3))

    def ended(self) -> str | None:
        return None

    def last_stderr_line(self) -> str:
        return ""

    def close(self) -> None:
        """Does nothing: the child has no process."""


@dataclass(frozen=True)
class Disturbance:
    apply: Callable[[Board], None]


def clock_step(drawn: random.Random) -> Disturbance:
    """The CPU clock drops to a fraction at some time of the window, until its end."""
    at_s, share = drawn.uniform(0.2, 0.75) * WINDOW_S, drawn.uniform(0.55, 0.88)

    def apply(board: Board) -> None:
        board.speed = lambda now_s: share if now_s >= at_s else 1.0
    return Disturbance(apply)


def throttle(drawn: random.Random) -> Disturbance:
    """A throttle counter rises; calls are slower for at most 50 ms."""
    at_s, for_s = drawn.uniform(0.1, 0.8) * WINDOW_S, drawn.uniform(0.005, 0.05)

    def apply(board: Board) -> None:
        board.throttled_s = at_s
        board.slow = lambda now_s: 1.3 if at_s <= now_s < at_s + for_s else 1.0
    return Disturbance(apply)


def drift(drawn: random.Random) -> Disturbance:
    """The time of a call increases linearly over the window, by 4.5 to 35 %."""
    change = drawn.uniform(0.045, 0.35)

    def apply(board: Board) -> None:
        board.slow = lambda now_s: 1.0 + change * min(now_s / WINDOW_S, 1.0)
    return Disturbance(apply)
