"""What a device loads: file format, opset, IR version and number formats; free of torch."""

from dataclasses import dataclass
from typing import Literal, cast

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

    def as_dict(self) -> dict[str, object]:
        """Plain JSON. The default file format is left out, so that the documents of earlier
        versions stay equal."""
        document: dict[str, object] = {
            "opset": self.opset, "ir_version": self.ir_version,
            "number_formats": sorted(self.number_formats),
            "int8_activations": self.int8_activations}
        return document if self.format == Target.format else {**document, "format": self.format}


def activations(name: str | None) -> Activations:
    """The activations of int8 files, by a profile's own; unsigned where it names none."""
    return cast(Activations, name or Target.int8_activations)
