"""Seconds since the epoch that never run backwards within a process."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


def steady_clock() -> Clock:
    """Wall-clock seconds at the call, advanced by the monotonic clock from then on.

    A step of the system clock therefore neither expires a lease nor reorders spans.
    """
    offset_s = time.time() - time.monotonic()
    return lambda: offset_s + time.monotonic()
