"""Why a compressed ONNX file is not faster than another file: a comparison of their node times."""

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


def explanation_of(model: Path, other: Path, ratio: Ratio,
              profile: Callable[[], MeasureResult | None]) -> list[str]:
    """The warning that MODEL is compressed but not faster, or an empty list.

    ``profile`` runs a job that times the nodes of both files, with OTHER as the reference, and
    returns its result. It is called only when MODEL needs an explanation.
    """
    if ratio.low < NO_GAIN:
        return []
    own, reference = _counted(model), _counted(other)
    if own is None or reference is None or not compressed(own, reference):
        return []
    result = profile() or MeasureResult()
    summary = result.measurements[0].summary if result.measurements else None
    nodes = (None if summary is None else summary.nodes) or NodesMeasured("")
    others = result.reference_nodes or NodesMeasured("")
    found = not_faster(ProfiledFile(own, nodes), ProfiledFile(reference, others), ratio, None)
    return [] if found is None else [found]


def _counted(path: Path) -> Costs | None:
    """None for a file whose MACs cannot be counted."""
    import onnx  # loading it and ONNX Runtime is slow
    from google.protobuf.message import DecodeError

    from searcher.artifacts.formats.onnx_operators import integer_format
    from searcher.artifacts.onnx_complexity import complexity

    try:
        model = onnx.load(path)
        integers = integer_format(node.op_type for node in model.graph.node)
        return Costs(complexity(model).macs, integers)
    except (UserError, OSError, ValueError, DecodeError):
        return None
