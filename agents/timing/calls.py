"""Times single calls: samples much longer than a clock tick, with caches flushed in between.

The clock (nanoseconds) and the callable are arguments.
"""

from typing import Callable, List, Optional, Sequence

MIN_TICKS = 100
"""Least length of a sample in clock ticks: one tick is then 1 % of it."""
TICK_READINGS = 200
NS = 1e9

Run = Callable[[], object]


def time_block(run: Run, block_ns: int, clock_ns: Callable[[], int], repeats: int = 1,
               before_each: Optional[Run] = None) -> List[int]:
    """Times calls until ``block_ns`` have passed, at least one; returns nanoseconds per call.

    Each sample is the mean of ``repeats`` calls. ``before_each`` runs before each sample, untimed.
    """
    calls: List[int] = []
    end = clock_ns() + block_ns
    if repeats > 1:
        run = _repeated(run, repeats)
    while True:
        if before_each is not None:
            before_each()
        before = clock_ns()
        run()
        after = clock_ns()
        calls.append(after - before)
        if after >= end:
            return calls if repeats == 1 else [call // repeats for call in calls]


def _repeated(run: Run, repeats: int) -> Run:
    def several() -> None:
        for _ in range(repeats):
            run()
    return several


def tick_ns(clock_ns: Callable[[], int]) -> int:
    """The smallest observed step of the clock in nanoseconds; 1 if it does not move."""
    readings = [clock_ns() for _ in range(TICK_READINGS)]
    steps = [b - a for a, b in zip(readings, readings[1:]) if b > a]
    return min(steps) if steps else 1


def repeats_per_sample(call_ns: float, tick: int) -> int:
    """Calls per sample, so that a sample takes ``MIN_TICKS`` ticks."""
    return max(1, -(-MIN_TICKS * tick // max(int(call_ns), 1)))


def cache_flusher(size_bytes: int) -> Optional[Run]:
    """A callable that writes ``size_bytes`` to evict other data from the caches; None for 0."""
    if not size_bytes:
        return None
    target, source = bytearray(size_bytes), bytes(size_bytes)

    def flush() -> None:
        target[:] = source
    return flush


def median(values: Sequence[float]) -> float:
    """The median. Raises IndexError for an empty sequence."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[middle])
    return (ordered[middle - 1] + ordered[middle]) / 2.0
