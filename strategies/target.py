"""What a device loads: file format, opset, IR version and number formats; free of torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """What a device loads: file format, limits of its runtime and the numbers it computes with."""

    format: str = "onnx"
    opset: int = 13
    ir_version: int = 7
    number_formats: frozenset[str] = frozenset({"float32", "int8"})
    int8_activations: Literal["uint8", "int8"] = "uint8"
