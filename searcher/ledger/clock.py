"""Seconds since the epoch that never decrease within a process."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


def steady_clock() -> Clock:
    """A clock that starts at the wall-clock time and advances with the monotonic clock.

    A step of the system clock therefore neither expires a lease nor reorders spans.
    """
    offset_s = time.time() - time.monotonic()
    return lambda: offset_s + time.monotonic()
