"""Calls timed one by one: samples that are long against the clock's tick, caches flushed between.

The clock (nanoseconds) and what is called come from outside.
"""

from typing import Callable, List, Optional, Sequence

TICKS = 100
"""A sample takes at least so many ticks of the clock, so that one tick is 1 % of it."""
TICK_READINGS = 200
NS = 1e9

Run = Callable[[], object]


def time_block(run: Run, block_ns: int, clock_ns: Callable[[], int], repeats: int = 1,
               before_each: Optional[Run] = None) -> List[int]:
    """Nanoseconds of each call; calls are begun until ``block_ns`` have passed, at least one.

    With ``repeats`` each is the mean of so many; ``before_each`` is called before, untimed.
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
    """The smallest step by which the clock is seen to move; 1 when it does not."""
    readings = [clock_ns() for _ in range(TICK_READINGS)]
    steps = [b - a for a, b in zip(readings, readings[1:]) if b > a]
    return min(steps) if steps else 1


def repeats_for(call_ns: float, tick: int) -> int:
    """How many calls make a sample that is long against the tick."""
    return max(1, -(-TICKS * tick // max(int(call_ns), 1)))


def flusher(size_bytes: int) -> Optional[Run]:
    """Writes so many bytes, which drives other data out of the caches; None for none."""
    if not size_bytes:
        return None
    target, source = bytearray(size_bytes), bytes(size_bytes)

    def flush() -> None:
        target[:] = source
    return flush


def median(values: Sequence[float]) -> float:
    """Raises IndexError on an empty sequence."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[middle])
    return (ordered[middle - 1] + ordered[middle]) / 2.0
