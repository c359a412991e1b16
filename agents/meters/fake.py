"""A meter with scripted values, for tests and for demonstrations without hardware."""

from typing import List, Optional, Sequence

from agents.meters.base import MeterReading, PowerMeter
from agents.protocol import Rail

RAIL = Rail("fake_mw", "mW", "script", "board", "total", "instant")


class FakeMeter(PowerMeter):
    """Returns ``values`` in turn, then repeats the last one. ``broken`` is its ``problem``.
    ``rail`` describes the values, by default the power of a board in mW."""

    name = "fake"

    def __init__(self, values: Sequence[float] = (1.0,), broken: Optional[str] = None,
                 rail: Rail = RAIL) -> None:
        if not values:
            raise ValueError("a fake meter needs at least one value")
        self._values = list(values)
        self._broken = broken
        self._rail = rail

    def problem(self) -> Optional[str]:
        return self._broken

    def readings(self) -> List[MeterReading]:
        value = self._values.pop(0) if len(self._values) > 1 else self._values[0]
        return [MeterReading(self._rail.name, float(value), self._rail.unit, self._rail.source)]

    def rails(self) -> List[Rail]:
        return [self._rail]
