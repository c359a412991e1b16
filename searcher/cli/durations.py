"""Durations as text."""

import re

from searcher.errors import UserError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def duration_s(text: str) -> float:
    """Parse ``90s``, ``30m``, ``1h`` or ``7d`` into seconds. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or float(found[1]) == 0.0:
        raise UserError(f"{text!r} is not a duration. Write 90s, 30m, 1h or 7d.")
    return float(found[1]) * _SECONDS[found[2]]


def ago_text(seconds: float) -> str:
    """Format as ``12 s``, ``5 min``, ``3 h`` or ``2 d``."""
    for most, scale, unit in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < most:
            return f"{max(seconds, 0.0) / scale:.0f} {unit}"
    return f"{seconds / 86_400.0:.0f} d"
