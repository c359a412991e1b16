"""Energy of one rail between two moments, or why it is unavailable.

    power     P |    .-.   ._        trapezoid over the polls, straight lines at both edges
                |___/   \\_/  \\__
    counter   E |        _.-'        difference, straight lines between the moments at which the
                |___.--''            counter was seen to move; a counter that wraps goes on
                    |      |
                 start    end

A meter that is polled more often than it measures repeats its value. Its *updates* are the polls
whose value differs from the one before; their median distance is its period. Fewer than
``MIN_UPDATES`` in the window is ``window too short``; a pause that is long against the period is
``meter gaps``. The errors do not include those of the sensor itself (shunts, calibration).
"""

import math
from bisect import bisect_left, bisect_right
from typing import List, NamedTuple, Sequence, Tuple

from agents.measurement.energy.polling import PolledRail, readable

MIN_UPDATES = 100
MISSED_UPDATES = 3.0
"""Longest time without a poll, in periods of the meter, where power is integrated."""
STALE_UPDATES = 10.0
"""Longest time without a new value, in periods of the meter."""
SAFE_SHARE_OF_WRAP = 0.5
NORMAL_95 = 1.96
SCALE = {"W": 1.0, "mW": 1e-3, "uW": 1e-6, "J": 1.0, "mJ": 1e-3, "uJ": 1e-6}
COUNTERS = ("J", "mJ", "uJ")


class EnergyUnavailable(Exception):
    """The energy cannot be determined; the text begins with a short stable reason."""


class Integral(NamedTuple):
    """``energy_j`` of the window and its errors: of the edges, of the quantisation of values, and
    (power only) the 95 % error of sampling."""

    energy_j: float
    duration_s: float
    updates: int
    update_s: float
    edge_j: float
    quantisation_j: float
    sampling_j: float

    @property
    def error_j(self) -> float:
        return self.edge_j + self.quantisation_j + self.sampling_j

    @property
    def power_w(self) -> float:
        return self.energy_j / self.duration_s


def integral(trace: PolledRail, start_s: float, end_s: float,
             min_updates: int = MIN_UPDATES) -> Integral:
    """The energy between two times. Raises EnergyUnavailable, and ValueError for an empty
    window."""
    if not end_s > start_s:
        raise ValueError("a window from {} to {} s has no length".format(start_s, end_s))
    found = readable(trace)
    scale = SCALE[found.rail.unit]
    values = [value * scale for value in found.values]
    times = found.times_s
    if len(times) < 2 or times[0] > start_s or times[-1] < end_s:
        raise EnergyUnavailable(
            "meter gaps: {} was not read from the beginning of the window to its end"
                      .format(found.rail.name))
    first, last = bisect_right(times, start_s) - 1, bisect_left(times, end_s)
    counter = found.rail.unit in COUNTERS
    if counter:
        first, last = _beyond(values, first, last)
    times, values = times[first:last + 1], values[first:last + 1]
    if counter:
        values = _unwrapped(found, times, values, scale)
    moved = [place for place in range(1, len(values)) if values[place] != values[place - 1]]
    within = sum(start_s < times[place] <= end_s for place in moved)
    updates, update_s = _updates(found, times, moved, within, end_s - start_s, min_updates)
    _refuse_silence(found, times, moved, update_s, counter)
    if counter:
        return _difference(times, values, moved, (start_s, end_s), updates, update_s, scale)
    step_w = min(abs(values[place] - values[place - 1]) for place in moved)
    return _trapezoid(times, values, (start_s, end_s), updates, update_s, step_w)


def _beyond(values: Sequence[float], first: int, last: int) -> Tuple[int, int]:
    """The indices of the window, widened to the counter's last update before it and the next one
    after it, if any: the value at an edge is interpolated between two updates."""
    while first > 0 and values[first - 1] == values[first]:
        first -= 1
    while last < len(values) - 1 and values[last] == values[last - 1]:
        last += 1
    return max(first - 1, 0), last


def _updates(trace: PolledRail, times: Sequence[float], moved: Sequence[int], updates: int,
             duration_s: float, min_updates: int) -> Tuple[int, float]:
    """The number of updates in the window, and the observed period. The claimed period bounds it,
    because two registers read in turn can show one update as two values."""
    if trace.rail.update_s:
        updates = min(updates, int(duration_s / trace.rail.update_s * (1 + 1e-9)) + 1)
    if updates < max(min_updates, 2):
        raise EnergyUnavailable(
            "window too short: {} updates of {} in {:.1f} s, at least {} are wanted"
                      .format(updates, trace.rail.name, duration_s, max(min_updates, 2)))
    between = sorted(times[b] - times[a] for a, b in zip(moved, moved[1:]))
    return updates, max(between[len(between) // 2], trace.rail.update_s or 0.0)


def _refuse_silence(trace: PolledRail, times: Sequence[float], moved: Sequence[int],
                    update_s: float,
                    counter: bool) -> None:
    """Raises EnergyUnavailable for a long pause. Between polls a counter keeps counting, but power
    is unknown."""
    seen = [times[0], *(times[place] for place in moved), times[-1]]
    for what, moments, most in (("not read", times, MISSED_UPDATES),
                                ("the same", seen, STALE_UPDATES)):
        longest = max(b - a for a, b in zip(moments, moments[1:]))
        if longest > most * update_s and not (counter and what == "not read"):
            raise EnergyUnavailable(
                "meter gaps: {} was {} for {:.2f} s, its period is {:.3f} s".format(
                trace.rail.name, what, longest, update_s))


def _unwrapped(trace: PolledRail, times: Sequence[float], values: Sequence[float], scale: float
               ) -> List[float]:
    """The counter without wraps. Raises EnergyUnavailable if a wrap may have been missed."""
    wraps_at = trace.rail.wraps_at * scale if trace.rail.wraps_at else None
    found, turns = [values[0]], 0.0
    for before, now in zip(values, values[1:]):
        if now < before:
            if wraps_at is None:
                raise EnergyUnavailable("meter reset: {} went back from {:g} to {:g} J".format(
                    trace.rail.name, before, now))
            turns += wraps_at
        found.append(now + turns)
    if wraps_at is not None:
        power_w = (found[-1] - found[0]) / (times[-1] - times[0])
        longest = max(b - a for a, b in zip(times, times[1:]))
        if power_w * longest > SAFE_SHARE_OF_WRAP * wraps_at:
            raise EnergyUnavailable(
                "meter gaps: {} was not read for {:.1f} s, and wraps every {:.1f} s"
                          .format(trace.rail.name, longest, wraps_at / power_w))
    return found


def _difference(times: Sequence[float], values: Sequence[float], moved: Sequence[int],
                window: Tuple[float, float], updates: int, update_s: float, unit_j: float
                ) -> Integral:
    # An update lies between the poll that shows it and the one before.
    at = [(times[place - 1] + times[place]) / 2 for place in moved]
    level = [values[place] for place in moved]
    energy_j = _between(at, level, window[1]) - _between(at, level, window[0])
    duration_s = window[1] - window[0]
    longest_poll_s = max(b - a for a, b in zip(times, times[1:]))
    # Each edge is uncertain by up to half a polling period.
    edge_j = energy_j / duration_s * min(longest_poll_s, update_s)
    return Integral(energy_j, duration_s, updates, update_s, edge_j, unit_j, 0.0)


def _between(at: Sequence[float], level: Sequence[float], moment: float) -> float:
    """Linear interpolation through the updates, with extrapolation beyond the ends."""
    place = min(max(bisect_right(at, moment), 1), len(at) - 1)
    slope = (level[place] - level[place - 1]) / (at[place] - at[place - 1])
    return level[place - 1] + slope * (moment - at[place - 1])


def _trapezoid(times: Sequence[float], values: Sequence[float], window: Tuple[float, float],
               updates: int, update_s: float, step_w: float) -> Integral:
    moments = [window[0], *(t for t in times if window[0] < t < window[1]), window[1]]
    powers = [_between(times, values, moment) for moment in moments]
    energy_j = math.fsum((powers[place] + powers[place + 1]) / 2
                         * (moments[place + 1] - moments[place])
                         for place in range(len(moments) - 1))
    duration_s = window[1] - window[0]
    mean = energy_j / duration_s
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    # At each edge the value may be one period old, and off by the deviation of the power.
    return Integral(energy_j, duration_s, updates, update_s, 2 * deviation * update_s,
                    step_w / 2 * duration_s, NORMAL_95 * deviation / math.sqrt(updates)
                    * duration_s)
