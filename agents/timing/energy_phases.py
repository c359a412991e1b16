"""What the measured process does while its energy is measured: rest, work, rest.

    | lead | idle_s | lead | energy_s, calls counted | lead | idle_s |
             before          load                             after

Nothing counts during the leads: a meter that tells a mean of the last second has then forgotten
what was before, and so has the governor. Windows begin and end where a call ends, so that they hold
whole calls.
"""

from typing import Callable, NamedTuple, Optional, Tuple

LEAD_S = 1.5
STEP_S = 0.1

Alive = Callable[[bool], None]


class Phases(NamedTuple):
    """Windows as (start, end) in seconds of ``clock``; the idle ones None when none was asked."""

    load: Tuple[float, float]
    calls: int
    idle_before: Optional[Tuple[float, float]]
    idle_after: Optional[Tuple[float, float]]


def run_phases(run: Callable[[], object], energy_s: float, idle_s: float,
               clock: Callable[[], float], sleep: Callable[[float], None],
               alive: Alive = lambda working: None, lead_s: float = LEAD_S) -> Phases:
    """``run`` is one call that is over when it returns. ``alive`` is called every ``STEP_S``, or
    after each call that takes longer; it is told whether this is the window of work."""
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
    """Number of calls and the moment at which the last one ended."""
    calls, begun = 0, clock()
    now = told = begun
    while now - begun < wanted_s:
        if calls == 0 or now - told >= STEP_S:
            alive()
            told = now
        run()
        calls += 1
        now = clock()
    return calls, now
