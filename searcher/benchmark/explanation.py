"""Why one ONNX file is not faster than another that costs more: a last look times their nodes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agents.protocol import NodesMeasured, decode
from searcher.errors import UserError
from searcher.statistics.bottlenecks import (
    NO_GAIN,
    Costs,
    Ratio,
    Side,
    compressed,
    not_faster,
)


def explained(model: Path, other: Path, ratio: Ratio,
              timed: Callable[[], Mapping[str, Any] | None]) -> list[str]:
    """The warning that MODEL is compressed but not faster, or nothing.

    ``timed`` runs a job in which the nodes of both are timed, OTHER being the reference, and gives
    its result; it is called only where there is something to explain.
    """
    if ratio.low < NO_GAIN:
        return []
    own, reference = _counted(model), _counted(other)
    if own is None or reference is None or not compressed(own, reference):
        return []
    result = timed() or {}
    entry = (result.get("measurements") or [{}])[0]
    nodes, others = (entry.get("summary") or {}).get("nodes"), result.get("reference_nodes")
    found = not_faster(Side(own, _nodes(nodes)), Side(reference, _nodes(others)), ratio, None)
    return [] if found is None else [found]


def _nodes(told: Mapping[str, Any] | None) -> NodesMeasured:
    return NodesMeasured("") if told is None else decode(NodesMeasured, dict(told))


def _counted(path: Path) -> Costs | None:
    """None for a file that cannot be counted."""
    import onnx  # as heavy as ONNX Runtime, which comes with the next: only where it is needed
    from google.protobuf.message import DecodeError

    from searcher.artifacts.formats.onnx_operators import integer_format
    from searcher.artifacts.onnx_complexity import complexity

    try:
        model = onnx.load(path)
        integers = integer_format(node.op_type for node in model.graph.node)
        return Costs(complexity(model).macs, integers)
    except (UserError, OSError, ValueError, DecodeError):
        return None
