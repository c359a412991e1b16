"""A meter that reads from a script: for tests and for a lab without hardware."""

from typing import List, Optional, Sequence

from agents.meters.base import Meter, Reading


class FakeMeter(Meter):
    """Returns ``values`` one after another and then the last one for ever; ``broken`` is its
    ``problem``."""

    name = "fake"

    def __init__(self, values: Sequence[float] = (1.0,), broken: Optional[str] = None) -> None:
        if not values:
            raise ValueError("a fake meter needs at least one value")
        self._values = list(values)
        self._broken = broken

    def problem(self) -> Optional[str]:
        return self._broken

    def readings(self) -> List[Reading]:
        value = self._values.pop(0) if len(self._values) > 1 else self._values[0]
        return [Reading("fake_mw", float(value), "mW", "script")]
