"""Why one ONNX file is not faster than another that costs more: a last look times their nodes."""

from collections.abc import Callable
from pathlib import Path

from agents.protocol import NodesMeasured
from searcher.errors import UserError
from searcher.statistics.bottlenecks import (
    NO_GAIN,
    Costs,
    ProfiledFile,
    compressed,
    not_faster,
)
from searcher.statistics.measured import MeasureResult, Ratio


def explained(model: Path, other: Path, ratio: Ratio,
              timed: Callable[[], MeasureResult | None]) -> list[str]:
    """The warning that MODEL is compressed but not faster, or nothing.

    ``timed`` runs a job in which the nodes of both are timed, OTHER being the reference, and gives
    its result; it is called only where there is something to explain.
    """
    if ratio.low < NO_GAIN:
        return []
    own, reference = _counted(model), _counted(other)
    if own is None or reference is None or not compressed(own, reference):
        return []
    result = timed() or MeasureResult()
    summary = result.measurements[0].summary if result.measurements else None
    nodes = (None if summary is None else summary.nodes) or NodesMeasured("")
    others = result.reference_nodes or NodesMeasured("")
    found = not_faster(ProfiledFile(own, nodes), ProfiledFile(reference, others), ratio, None)
    return [] if found is None else [found]


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
