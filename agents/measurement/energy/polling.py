"""Polls meters and records the values and times of each rail."""

import math
from typing import Callable, List, NamedTuple, Sequence

from agents.measurement.energy.rails import with_profile_roles
from agents.meters.base import PowerMeter
from agents.protocol import UNKNOWN, ProfileFacts, Rail

FASTEST_S, SLOWEST_S = 0.02, 0.5
"""Bounds of the polling period in seconds. A poll takes time of the device."""


class PolledRail(NamedTuple):
    """The polls of one rail; both lists have equal length, an unreadable value is NaN."""

    meter: str
    rail: Rail
    times_s: List[float]
    values: List[float]


class MeterRecorder:
    """Polls meters without a problem. ``clock`` is the monotonic clock of the measuring child,
    ``profile`` gives roles to rails."""

    def __init__(self, meters: Sequence[PowerMeter], clock: Callable[[], float],
                 profile: ProfileFacts = UNKNOWN) -> None:
        self._meters = list(meters)
        self._clock = clock
        self._times: List[List[float]] = [[] for _ in self._meters]
        self._values: List[List[Sequence[float]]] = [[] for _ in self._meters]
        self._rails = [with_profile_roles(meter.rails(), profile) for meter in self._meters]

    def period_s(self) -> float:
        """The polling period: half the shortest update period of a rail, within bounds."""
        claimed = [rail.update_s for rails in self._rails for rail in rails if rail.update_s]
        return min(max(min(claimed, default=0.0) / 2, FASTEST_S), SLOWEST_S)

    def poll(self) -> None:
        """Reads every meter once, with the time of the middle of the reading."""
        for place, meter in enumerate(self._meters):
            before = self._clock()
            values = meter.rail_values()
            self._times[place].append((before + self._clock()) / 2)
            self._values[place].append(values)

    def traces(self) -> List[PolledRail]:
        found = []
        for place, meter in enumerate(self._meters):
            for column, rail in enumerate(self._rails[place]):
                found.append(PolledRail(meter.name, rail, list(self._times[place]),
                                   [values[column] for values in self._values[place]]))
        return found


def readable(trace: PolledRail) -> PolledRail:
    """The trace without unreadable polls."""
    kept = [place for place, value in enumerate(trace.values) if math.isfinite(value)]
    return trace._replace(times_s=[trace.times_s[place] for place in kept],
                          values=[trace.values[place] for place in kept])
