"""The error tree. Every message says what happened, which value, and what to do.

    FleetfrontError
    ├── UserError          wrong input that the user can correct: exit code 1
    │   └── TaskError      the user's model, data, loss or metric raised, or does not fit
    ├── BuildError         a candidate cannot be built; the campaign continues without it
    ├── DeviceError        a device or its agent failed
    ├── ProtocolError      a message on the wire is malformed, stale or of another version
    │   └── DroppedError   a file was dropped from the disk and can be built again
    └── LedgerError        the ledger cannot be opened, read or written

Any other exception is a defect of fleetfront: exit code 2.
"""

import difflib
from collections.abc import Iterable


class FleetfrontError(Exception):
    """Root of every error that fleetfront raises on purpose."""


class UserError(FleetfrontError):
    """The input is wrong; the user can correct it."""


class TaskError(UserError):
    """The user's task is wrong. The message names the split with the sample or the field of the
    task, what was found, what is expected, and what to do."""


class BuildError(FleetfrontError):
    """A recipe cannot be built. ``reason`` is a short, stable word for the ledger."""

    def __init__(self, message: str, reason: str = "build") -> None:
        super().__init__(message)
        self.reason = reason


class DeviceError(FleetfrontError):
    """A device or its agent failed."""


class ProtocolError(FleetfrontError):
    """A message on the wire is not acceptable. ``status`` is the HTTP status of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class DroppedError(ProtocolError):
    """The file with this ``sha256`` is known, but was dropped from the disk or lost."""

    def __init__(self, sha256: str, message: str | None = None) -> None:
        super().__init__(message or (
            f"The file {sha256} is not on the disk: it was dropped to stay within --keep, or lost. "
            f"Build it again from its recipe: POST /v1/artifacts/{sha256}/rebuild."), 410)
        self.sha256 = sha256


class LedgerError(FleetfrontError):
    """The ledger cannot be opened, read or written."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``Did you mean 'x'?`` with the closest known word, or the list of all known words."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(words) or 'none'}."
