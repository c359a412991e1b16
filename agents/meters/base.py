"""The interface of a meter. ``problem`` says why a meter cannot be read, and what to do."""

from typing import List, NamedTuple, Optional, Sequence

from agents.protocol import Rail


class MeterError(Exception):
    """The meter cannot be read; the text is its ``problem``."""


class MeterReading(NamedTuple):
    """One value. ``name`` ends in its unit (``peak_bytes``, ``VDD_IN_mw``), ``source`` is its file
    or function. The value is NaN if it could not be read this time."""

    name: str
    value: float
    unit: str
    source: str


class Meter:
    """A source of readings. Not thread-safe; ``read`` is fast."""

    name = ""

    def problem(self) -> Optional[str]:
        """None if the meter can be read; otherwise cause and remedy in one sentence."""
        raise NotImplementedError

    def remedy(self) -> str:
        """A shell command that removes the problem; empty if there is none."""
        return ""

    def readings(self) -> List[MeterReading]:
        """The readings, at least one, always with the same names in the same order. Called only if
        ``problem`` is None."""
        raise NotImplementedError

    def read(self) -> List[MeterReading]:
        """The readings. Raises MeterError if there is a problem."""
        trouble = self.problem()
        if trouble is not None:
            raise MeterError(trouble)
        return self.readings()


class PowerMeter(Meter):
    """A meter of power or energy."""

    def rails(self) -> List[Rail]:
        """The rails of its power and energy readings, with their names and in their order. Called
        only if ``problem`` is None."""
        raise NotImplementedError

    def rail_values(self) -> Sequence[float]:
        """The values of ``rails`` in their order. This is polled."""
        wanted = [rail.name for rail in self.rails()]
        values = {one.name: one.value for one in self.readings()}
        return [values[name] for name in wanted]

    def close(self) -> None:
        """Releases resources; the meter can be read again afterwards."""
