"""Figures as people read them."""


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


def share_text(value: float) -> str:
    return f"{value:.2%}"
