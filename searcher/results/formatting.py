"""Figures as people read them."""

from collections.abc import Sequence

from searcher.spec.objectives import Quality


def time_text(seconds: float) -> str:
    """``26.1 us``, ``1.23 ms``, ``2.00 s``."""
    for scale, unit in ((1e-3, "us"), (1.0, "ms")):
        if seconds < scale:
            return f"{seconds / scale * 1e3:.3g} {unit}"
    return f"{seconds:.3g} s"


def bytes_text(size: float) -> str:
    """``21.3 KB`` with 1 KB = 1000 bytes."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} B"


def direction_text(quality: Quality) -> str:
    """``smaller is better``, with the unit where it is not a share."""
    unit = "" if quality.unit in ("", "share") else f", in {quality.unit}"
    return f"{'smaller' if quality.direction == 'minimize' else 'larger'} is better{unit}"


def lost_text(value: float, unit: str) -> str:
    """A loss with its sign: of shares in points, of other units as a number."""
    return f"{value * 100:+.2f}" if unit == "share" else f"{value:+.4g}"


def interval_text(ends: Sequence[float], unit: str) -> str:
    """``[97.1%..98.9%]`` of shares, ``[1.92..2.03]`` of other units."""
    low, high = ends
    return f"[{low:.1%}..{high:.1%}]" if unit == "share" else f"[{low:.4g}..{high:.4g}]"


def lost_interval_text(ends: Sequence[float], unit: str) -> str:
    """``[-0.1..+0.9]`` in points of shares, and as ``lost_text`` of other units."""
    low, high = ends
    if unit == "share":
        return f"[{low * 100:+.1f}..{high * 100:+.1f}]"
    return f"[{low:+.4g}..{high:+.4g}]"
