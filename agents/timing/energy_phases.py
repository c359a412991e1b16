"""The phases of an energy measurement in the measured process: idle, load, idle.

    | lead | idle_s | lead | energy_s, calls counted | lead | idle_s |
             before          load                             after

The leads are not measured. They let a meter that reports the mean of the last second, and the
clock governor, reach the new state. Windows begin and end at the end of a call, so that they hold
whole calls.
"""

from typing import Callable, NamedTuple, Optional, Tuple

LEAD_S = 1.5
STEP_S = 0.1

Alive = Callable[[bool], None]


class Phases(NamedTuple):
    """Windows as (start, end) in seconds of ``clock``; idle windows are None if not requested."""

    load: Tuple[float, float]
    calls: int
    idle_before: Optional[Tuple[float, float]]
    idle_after: Optional[Tuple[float, float]]


def run_phases(run: Callable[[], object], energy_s: float, idle_s: float,
               clock: Callable[[], float], sleep: Callable[[float], None],
               alive: Alive = lambda working: None, lead_s: float = LEAD_S) -> Phases:
    """Runs the phases. ``run`` is one synchronous call. ``alive(working)`` is called every
    ``STEP_S``, or after each longer call; ``working`` is true in the load window."""
    before = _rest(idle_s, lead_s, clock, sleep, alive)
    _calls(run, lead_s, clock, lambda: alive(False))
    start = clock()
    calls, end = _calls(run, energy_s, clock, lambda: alive(True))
    return Phases((start, end), calls, before, _rest(idle_s, lead_s, clock, sleep, alive))


def _rest(idle_s: float, lead_s: float, clock: Callable[[], float],
          sleep: Callable[[float], None], alive: Alive) -> Optional[Tuple[float, float]]:
    if idle_s <= 0:
        return None
    begun = now = clock()
    while now - begun < lead_s + idle_s:
        alive(False)
        sleep(min(STEP_S, lead_s + idle_s - (now - begun)))
        now = clock()
    return begun + lead_s, now


def _calls(run: Callable[[], object], wanted_s: float, clock: Callable[[], float],
           alive: Callable[[], None]) -> Tuple[int, float]:
    """The number of calls, and the time at which the last one ended."""
    calls, begun = 0, clock()
    now = reported = begun
    while now - begun < wanted_s:
        if calls == 0 or now - reported >= STEP_S:
            alive()
            reported = now
        run()
        calls += 1
        now = clock()
    return calls, now
