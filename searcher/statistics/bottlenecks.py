"""Files that are compressed but not faster: detection, and the cause from times of single nodes.

    compressed       at least 20 % fewer multiply-accumulates than the reference, or integers
    not faster       the interval of the ratio to it leaves no room for a gain of 5 %
    why              provider fell back, launch-bound, unfused, memory-bound: all that hold

Node times come from the agent's profile of a run, minus the profiled time of a node that computes
nothing. For a node on an accelerator, a profile of the host shows the time of its launch, not its
duration; then only the first two causes can be found. docs/measurement.md defines all thresholds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

from agents.protocol import Copy, NodesMeasured, NodeTime
from searcher.statistics.measured import Ratio

FEWER_MACS = 0.8
NO_GAIN = 0.95
LAUNCH_SHARE = 0.5
UNFUSED_SHARE = 0.2
MEMORY_SHARE, COPY_SPEED_SHARE, SAME_BYTES = 0.5, 0.5, 0.8
HOST = "CPUExecutionProvider"
SEPARATE = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast",
    "Transpose", "ReorderInput", "ReorderOutput",
    "BatchNormalization", "Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish"})
"""Operators that change number format or layout, or that belong to the layer before them. A runtime
fuses or removes them where it can."""
FLOAT_LAYERS = frozenset({
    "Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul",
    "FusedMatMul"})
MOST_NAMED = 4


@dataclass(frozen=True)
class Costs:
    """The computation in a file. ``macs`` is None if unknown."""

    macs: int | None
    integers: str | None
    """The integer format that it computes with, None for floats."""


@dataclass(frozen=True)
class ProfiledFile:
    """A file with the times of its nodes."""

    costs: Costs
    nodes: NodesMeasured


def not_faster(candidate: ProfiledFile, reference: ProfiledFile, ratio: Ratio,
               asked: str | None) -> str | None:
    """The warning; None when the candidate is faster or is not compressed. ``asked`` is the
    provider that the measurement requested."""
    how = compressed(candidate.costs, reference.costs)
    if how is None or ratio.low < NO_GAIN:
        return None
    return (f"compressed but not faster: {how}, yet {ratio.value:.3f} times its latency "
            f"[{ratio.low:.3f} .. {ratio.high:.3f}]; {why(candidate, reference, asked)}")


def compressed(candidate: Costs, reference: Costs) -> str | None:
    """Why the candidate should be faster than the reference; None if it need not be."""
    found = []
    if candidate.macs is not None and reference.macs and (
            candidate.macs <= FEWER_MACS * reference.macs):
        found.append(f"{1 - candidate.macs / reference.macs:.0%} fewer multiply-accumulates")
    if candidate.integers and not reference.integers:
        found.append(candidate.integers)
    return f"{' and '.join(found)} against the reference" if found else None


def why(candidate: ProfiledFile, reference: ProfiledFile, asked: str | None) -> str:
    """All causes that apply, with their figures."""
    for nodes in (candidate.nodes, reference.nodes):
        if nodes.problem or not nodes.nodes:
            return f"the cause is unknown: {nodes.problem or 'no node was reported'}"
    found = [fell_back(candidate.nodes, asked), launch_bound(candidate.nodes)]
    to_integers = bool(candidate.costs.integers and not reference.costs.integers)
    on_host = all(one.provider == HOST for one in (*candidate.nodes.nodes, *reference.nodes.nodes))
    if on_host:
        found += [unfused(candidate.nodes, reference.nodes, to_integers),
                  memory_bound(candidate.nodes, reference.nodes)]
    reasons = [reason for reason in found if reason is not None]
    if reasons:
        return "; ".join(reasons)
    return "no cause found: " + (longest(candidate.nodes) if on_host else
                                 "this provider does not report times of single nodes")


def fell_back(nodes: NodesMeasured, asked: str | None) -> str | None:
    elsewhere = [one for one in nodes.nodes if one.provider != asked]
    if asked is None or not elsewhere:
        return None
    return (f"provider fell back: {_count(elsewhere)} of {_count(nodes.nodes)} nodes did not run "
            f"on {asked} ({_named(elsewhere)})")


def launch_bound(nodes: NodesMeasured) -> str | None:
    """Whether a call of as many nodes that compute nothing takes most of the time of a call."""
    if not nodes.call_s or nodes.idle_call_s is None or nodes.idle_node_s is None:
        return None
    count = _count(nodes.nodes)
    idle_s = nodes.idle_call_s + (count - 1) * nodes.idle_node_s
    if idle_s < LAUNCH_SHARE * nodes.call_s:
        return None
    return (f"launch-bound: a call of {count} nodes that compute nothing takes {_time(idle_s)}, "
            f"its own {_time(nodes.call_s)}")


def unfused(nodes: NodesMeasured, reference: NodesMeasured, to_integers: bool) -> str | None:
    """Whether separate conversions, layout changes and activations, and ``to_integers`` also layers
    left in float, take ``UNFUSED_SHARE`` more of the nodes' time than in the reference."""
    ops = SEPARATE | FLOAT_LAYERS if to_integers else SEPARATE
    own, others = _share(nodes, ops), _share(reference, SEPARATE)
    if own - others < UNFUSED_SHARE:
        return None
    named = _named([one for one in _by_time(nodes) if one.op in ops])
    return f"unfused: {named} take {own:.0%} of the nodes' time (reference {others:.0%})"


def memory_bound(nodes: NodesMeasured, reference: NodesMeasured) -> str | None:
    """Whether most of the time is spent in nodes that move bytes about as fast as a copy does,
    while about as many bytes are moved as in the reference."""
    moved, before = _moved(nodes), _moved(reference)
    total_s = sum(net_s(one, nodes) for one in nodes.nodes)
    if moved is None or before is None or moved < SAME_BYTES * before or total_s <= 0:
        return None
    near_s = sum(net_s(one, nodes) for one in nodes.nodes if _as_fast_as_copying(one, nodes.copies))
    if near_s < MEMORY_SHARE * total_s:
        return None
    return (f"memory-bound: nodes that move bytes at over {COPY_SPEED_SHARE:.0%} of the "
            f"speed of a copy take {near_s / total_s:.0%} of the nodes' time; "
            f"{moved / 1e6:.3g} MB move in a call (reference {before / 1e6:.3g} MB)")


def longest(nodes: NodesMeasured) -> str:
    """The longest nodes, with their shares of the time of all nodes."""
    total_s = sum(net_s(one, nodes) for one in nodes.nodes)
    if total_s <= 0:
        return "no node takes longer than a node that computes nothing"
    shares = [f"{_named([one])}{f' {one.name}' if one.name else ''} "
              f"{net_s(one, nodes) / total_s:.0%}" for one in _by_time(nodes)[:MOST_NAMED]]
    return f"the longest nodes are {', '.join(shares)}"


def net_s(node: NodeTime, nodes: NodesMeasured) -> float:
    """Seconds of a node, minus the time of as many nodes that compute nothing."""
    return max(node.time_s - node.node_count * (nodes.profiled_idle_s or 0.0), 0.0)


def _by_time(nodes: NodesMeasured) -> list[NodeTime]:
    return sorted(nodes.nodes, key=lambda one: -net_s(one, nodes))


def _share(nodes: NodesMeasured, ops: frozenset[str]) -> float:
    total_s = sum(net_s(one, nodes) for one in nodes.nodes)
    chosen_s = sum(net_s(one, nodes) for one in nodes.nodes if one.op in ops)
    return chosen_s / total_s if total_s > 0 else 0.0


def _as_fast_as_copying(node: NodeTime, copies: Sequence[Copy]) -> bool:
    """Compares with the copy of the nearest size. A copy reads and writes every byte."""
    known = [copy for copy in copies if copy.time_s > 0 and copy.size_bytes > 0]
    if not node.moved_bytes or not known or node.time_s <= 0:
        return False
    half = node.moved_bytes / node.node_count / 2
    near = min(known, key=lambda copy: abs(log(copy.size_bytes / half)))
    speed = 2 * near.size_bytes / near.time_s
    return node.moved_bytes / node.time_s >= COPY_SPEED_SHARE * speed


def _moved(nodes: NodesMeasured) -> int | None:
    """Bytes that all nodes move; None if any of them is unknown."""
    moved = [one.moved_bytes for one in nodes.nodes]
    known = [size for size in moved if size is not None]
    return sum(known) if len(known) == len(moved) else None


def _named(nodes: Iterable[NodeTime]) -> str:
    """E.g. ``Conv x 3, Relu``: operators in the given order, with their number."""
    counts: dict[str, int] = {}
    for one in nodes:
        counts[one.op] = counts.get(one.op, 0) + one.node_count
    parts = [op if count == 1 else f"{op} x {count}" for op, count in counts.items()]
    more = ", ..." if len(parts) > MOST_NAMED else ""
    return ", ".join(parts[:MOST_NAMED]) + more


def _count(nodes: Iterable[NodeTime]) -> int:
    return sum(one.node_count for one in nodes)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"
