"""What the operators of an ONNX graph say about its number format; imports nothing."""

from collections.abc import Iterable

_INTEGER = ("QLinear", "QGemm", "Quantize", "Dequantize", "DynamicQuantize")


def integer_format(operators: Iterable[str]) -> str | None:
    """``int8`` where a graph of these operators computes with integers or converts to and from
    them, None where it computes with floats only."""
    integers = any(op.startswith(_INTEGER) or "Integer" in op for op in operators)
    return "int8" if integers else None
