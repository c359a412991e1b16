"""The file formats there are: one line each, and the entry points ``fleetfront.formats``."""

from functools import cache
from typing import TYPE_CHECKING

from searcher.entry_points import Registry

if TYPE_CHECKING:
    from searcher.artifacts.formats.base import ArtifactFormat

DEFAULT = "onnx"

FORMATS: "Registry[ArtifactFormat]" = Registry(
    "fleetfront.formats", "file format", "searcher.artifacts.formats.base:ArtifactFormat", {
        "onnx": "searcher.artifacts.formats.onnx:Onnx",
    })
"""{name: place}."""


@cache
def named(name: str) -> "ArtifactFormat":
    """The format ``name``. Raises UserError."""
    return FORMATS.get(name)()
