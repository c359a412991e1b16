"""What a device loads: file format, opset, IR version and number formats; free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from strategies.number_formats import FLOAT32, INT8

Activations = Literal["uint8", "int8"]


@dataclass(frozen=True)
class Target:
    """What a device loads: file format, limits of its runtime and the numbers it computes with.
    ``format`` names one of ``fleetfront.formats``."""

    format: str = "onnx"
    opset: int = 13
    ir_version: int = 7
    number_formats: frozenset[str] = frozenset({FLOAT32, INT8})
    int8_activations: Activations = "uint8"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; ``of`` reads it back. The default file format is left out: documents of
        before there were several stay equal."""
        document = {"opset": self.opset, "ir_version": self.ir_version,
                    "number_formats": sorted(self.number_formats),
                    "int8_activations": self.int8_activations}
        return document if self.format == Target.format else {**document, "format": self.format}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Target":
        """From ``as_dict``. Raises TypeError for an unknown key, KeyError without
        ``number_formats``."""
        return cls(**{**document, "number_formats": frozenset(document["number_formats"])})


def activations(name: str | None) -> Activations:
    """The activations of int8 files, by a profile's own; unsigned where it names none."""
    return cast(Activations, name or Target.int8_activations)
