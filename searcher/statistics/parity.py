"""Parity: whether a device computes the same outputs as the host. A rule on plain values."""

import math
from collections.abc import Sequence

import numpy as np

TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "int8": 2e-2}
"""Largest allowed difference from the host's outputs, relative to their range, by format."""


def parity(expected: Sequence[float], outputs: Sequence[float], number_format: str) -> str | None:
    """None when the outputs agree within ``TOLERANCE``, otherwise the reason in words."""
    if len(expected) != len(outputs):
        return f"parity: {len(outputs)} output values where the host has {len(expected)}"
    if not all(map(math.isfinite, outputs)):
        return "parity: the device computed values that are not finite"
    if not expected:
        return None
    if not all(map(math.isfinite, expected)):
        return "parity: the host computed values that are not finite"
    host, device = np.asarray(expected), np.asarray(outputs)
    scale = max(float(np.max(np.abs(host))), 1e-6)
    distance = float(np.max(np.abs(host - device))) / scale
    tolerance = TOLERANCE[number_format]
    if distance > tolerance:
        return f"parity: outputs differ by {distance:.2%} of their range, allowed {tolerance:.2%}"
    return None
