"""Figures as people read them, and the rows of a front."""

import shutil
from pathlib import Path
from typing import Any


def front_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One flat row per point, the baseline first."""
    return [{"candidate": p["candidate"], "recipe": recipe_text(p["recipe"]), **p["values"],
             "sha256": p["sha256"]} for p in (document["baseline"], *document["points"])]


def recipe_text(recipe: list[dict[str, Any]]) -> str:
    """The recipe in one line."""
    from searcher.spec.recipe import Recipe

    return str(Recipe.from_list(recipe))


def save_files(document: dict[str, Any], folder: Path) -> dict[str, str]:
    """Copy every point's file into ``folder``, named by campaign and number.

    Candidate and sha256 of those whose file was dropped.
    """
    from searcher.client.rebuilds import missing

    folder.mkdir(parents=True, exist_ok=True)
    points = (document["baseline"], *document["points"])
    gone = missing(points)
    for point in points:
        if point["candidate"] not in gone:
            name = point["candidate"].replace("/", "-")
            shutil.copyfile(point["artifact"], folder / f"{name}.onnx")
    return gone


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
