"""Parity: whether a device computes the same outputs as the host. A rule on plain values."""

import math
from collections.abc import Sequence

import numpy as np


def parity(expected: Sequence[float], outputs: Sequence[float], tolerance: float) -> str | None:
    """None when the outputs agree within ``tolerance``, otherwise the reason in words.
    ``tolerance`` is the largest allowed difference, relative to the range of the outputs.

    Of a file from an older version only the values of the first output are expected. A device
    answers them first; the values that follow are not compared."""
    if len(outputs) < len(expected) or (outputs and not expected):
        return f"parity: {len(outputs)} output values where the host has {len(expected)}"
    if not all(map(math.isfinite, outputs)):
        return "parity: the device computed values that are not finite"
    if not expected:
        return None
    if not all(map(math.isfinite, expected)):
        return "parity: the host computed values that are not finite"
    host, device = np.asarray(expected), np.asarray(outputs[:len(expected)])
    scale = max(float(np.max(np.abs(host))), 1e-6)
    distance = float(np.max(np.abs(host - device))) / scale
    if distance > tolerance:
        return f"parity: outputs differ by {distance:.2%} of their range, allowed {tolerance:.2%}"
    return None
