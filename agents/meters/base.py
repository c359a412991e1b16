"""What a meter is. "No meter" is an answer: ``problem`` says why and how to mend it."""

from typing import List, NamedTuple, Optional, Sequence

from agents.protocol import Rail


class MeterError(Exception):
    """A meter was read that cannot be read; the text is its ``problem``."""


class MeterReading(NamedTuple):
    """``name`` ends in its unit (``peak_bytes``, ``VDD_IN_mw``); ``source``: where it came from.
    A value that could not be read this once is NaN."""

    name: str
    value: float
    unit: str
    source: str


class Meter:
    """One source of readings. Not thread safe; ``read`` is cheap and takes no window."""

    name = ""

    def problem(self) -> Optional[str]:
        """None when it can be read; otherwise the cause and the mend in one sentence."""
        raise NotImplementedError

    def mend(self) -> str:
        """The command that mends the problem; empty where none does."""
        return ""

    def readings(self) -> List[MeterReading]:
        """At least one reading, always the same names in the same order. Called when
        ``problem`` is None."""
        raise NotImplementedError

    def read(self) -> List[MeterReading]:
        """Raises MeterError when there is a problem."""
        trouble = self.problem()
        if trouble is not None:
            raise MeterError(trouble)
        return self.readings()


class PowerMeter(Meter):
    """A meter some of whose readings are powers or counters of energy."""

    def rails(self) -> List[Rail]:
        """One for each such reading, under its name and in its order. Called when ``problem`` is
        None."""
        raise NotImplementedError

    def rail_values(self) -> Sequence[float]:
        """The values of ``rails``, in their order and nothing else: what is polled."""
        wanted = [rail.name for rail in self.rails()]
        values = {one.name: one.value for one in self.readings()}
        return [values[name] for name in wanted]

    def close(self) -> None:
        """Gives back what reading took; it may be read again afterwards."""
