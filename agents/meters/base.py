"""What a meter is. "No meter" is an answer: ``problem`` says why and how to mend it."""

from typing import List, NamedTuple, Optional


class MeterError(Exception):
    """A meter was read that cannot be read; the text is its ``problem``."""


class Reading(NamedTuple):
    """``name`` ends in its unit (``peak_bytes``, ``VDD_IN_mw``); ``source``: where it came from."""

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

    def readings(self) -> List[Reading]:
        """At least one reading, always the same names in the same order. Called when
        ``problem`` is None."""
        raise NotImplementedError

    def read(self) -> List[Reading]:
        """Raises MeterError when there is a problem."""
        trouble = self.problem()
        if trouble is not None:
            raise MeterError(trouble)
        return self.readings()
