"""Polling meters for some time: what each rail said, and when."""

import math
from typing import Callable, List, NamedTuple, Sequence

from agents.measurement.energy.rails import by_profile
from agents.meters.base import PowerMeter
from agents.protocol import UNKNOWN, ProfileFacts, Rail

FASTEST_S, SLOWEST_S = 0.02, 0.5
"""A poll costs the device time, so no meter is read more often, whatever it offers."""


class Trace(NamedTuple):
    """One rail as polled; both lists are equally long, a value that could not be read is NaN."""

    meter: str
    rail: Rail
    times_s: List[float]
    values: List[float]


class Recorder:
    """Polls meters that have no problem; ``clock`` is the monotonic one of the measuring child,
    ``profile`` says which rails count."""

    def __init__(self, meters: Sequence[PowerMeter], clock: Callable[[], float],
                 profile: ProfileFacts = UNKNOWN) -> None:
        self._meters = list(meters)
        self._clock = clock
        self._times: List[List[float]] = [[] for _ in self._meters]
        self._values: List[List[Sequence[float]]] = [[] for _ in self._meters]
        self._rails = [by_profile(meter.rails(), profile) for meter in self._meters]

    def period_s(self) -> float:
        """How often to poll: twice within the shortest period that a rail claims."""
        claimed = [rail.update_s for rails in self._rails for rail in rails if rail.update_s]
        return min(max(min(claimed, default=0.0) / 2, FASTEST_S), SLOWEST_S)

    def poll(self) -> None:
        """Reads every meter once; the time is the middle of the reading."""
        for place, meter in enumerate(self._meters):
            before = self._clock()
            values = meter.rail_values()
            self._times[place].append((before + self._clock()) / 2)
            self._values[place].append(values)

    def traces(self) -> List[Trace]:
        found = []
        for place, meter in enumerate(self._meters):
            for column, rail in enumerate(self._rails[place]):
                found.append(Trace(meter.name, rail, list(self._times[place]),
                                   [values[column] for values in self._values[place]]))
        return found


def readable(trace: Trace) -> Trace:
    """Without the polls that gave no number."""
    kept = [place for place, value in enumerate(trace.values) if math.isfinite(value)]
    return trace._replace(times_s=[trace.times_s[place] for place in kept],
                          values=[trace.values[place] for place in kept])
