"""Compressed but not faster: whether a measurement says so, and why, by the times of single nodes.

    compressed       at least 20 % fewer multiply-accumulates than the reference, or integers
    not faster       the interval of the ratio to it leaves no room for a gain of 5 %
    why              provider fell back, launch-bound, unfused, memory-bound: all that hold

The times are those of a profile (``agents/node_times.py``), less what it tells of a node that
computes nothing. Of nodes on an accelerator a profile of the host tells when they were begun, not
how long they took: there only the first two reasons can be told. docs/measurement.md has the
definitions with their thresholds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

from agents.protocol import Copy, NodesMeasured, NodeTime

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
"""What changes number format or layout, or belongs to the layer before: a runtime that can fuses or
removes it."""
FLOAT_LAYERS = frozenset({
    "Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul",
    "FusedMatMul"})
MOST_NAMED = 4


@dataclass(frozen=True)
class Costs:
    """What a file should cost; ``macs`` is None where nobody counted."""

    macs: int | None
    integers: str | None
    """The integer format that it computes with, None for floats."""


@dataclass(frozen=True)
class Side:
    """A file and how its nodes were timed."""

    costs: Costs
    nodes: NodesMeasured


@dataclass(frozen=True)
class Ratio:
    """Latency over that of the reference, with its 95 % interval."""

    value: float
    low: float
    high: float


def not_faster(candidate: Side, reference: Side, ratio: Ratio, asked: str | None) -> str | None:
    """The warning, or None when it is faster, or not compressed. ``asked``: the provider."""
    how = compressed(candidate.costs, reference.costs)
    if how is None or ratio.low < NO_GAIN:
        return None
    return (f"compressed but not faster: {how}, yet {ratio.value:.3f} times its latency "
            f"[{ratio.low:.3f} .. {ratio.high:.3f}]; {why(candidate, reference, asked)}")


def compressed(candidate: Costs, reference: Costs) -> str | None:
    """By what it should be faster than the reference; None where nothing says so."""
    found = []
    if candidate.macs is not None and reference.macs and (
            candidate.macs <= FEWER_MACS * reference.macs):
        found.append(f"{1 - candidate.macs / reference.macs:.0%} fewer multiply-accumulates")
    if candidate.integers and not reference.integers:
        found.append(candidate.integers)
    return f"{' and '.join(found)} against the reference" if found else None


def why(candidate: Side, reference: Side, asked: str | None) -> str:
    """All reasons that hold, with their figures."""
    for nodes in (candidate.nodes, reference.nodes):
        if nodes.problem or not nodes.nodes:
            return f"why is not known, {nodes.problem or 'no node was told'}"
    found = [fell_back(candidate.nodes, asked), launch_bound(candidate.nodes)]
    to_integers = bool(candidate.costs.integers and not reference.costs.integers)
    on_host = all(one.provider == HOST for one in (*candidate.nodes.nodes, *reference.nodes.nodes))
    if on_host:
        found += [unfused(candidate.nodes, reference.nodes, to_integers),
                  memory_bound(candidate.nodes, reference.nodes)]
    told = [reason for reason in found if reason is not None]
    if told:
        return "; ".join(told)
    return "no cause found: " + (longest(candidate.nodes) if on_host else
                                 "how long single nodes took is not known of this provider")


def fell_back(nodes: NodesMeasured, asked: str | None) -> str | None:
    elsewhere = [one for one in nodes.nodes if one.provider != asked]
    if asked is None or not elsewhere:
        return None
    return (f"provider fell back: {_count(elsewhere)} of {_count(nodes.nodes)} nodes ran beside "
            f"{asked} ({_named(elsewhere)})")


def launch_bound(nodes: NodesMeasured) -> str | None:
    """Most of a call is what a call of as many nodes takes that compute nothing."""
    if not nodes.call_s or nodes.idle_call_s is None or nodes.idle_node_s is None:
        return None
    count = _count(nodes.nodes)
    idle_s = nodes.idle_call_s + (count - 1) * nodes.idle_node_s
    if idle_s < LAUNCH_SHARE * nodes.call_s:
        return None
    return (f"launch-bound: a call of {count} nodes that compute nothing takes {_time(idle_s)}, "
            f"its own {_time(nodes.call_s)}")


def unfused(nodes: NodesMeasured, reference: NodesMeasured, to_integers: bool) -> str | None:
    """Conversions, layout and activations by themselves, and layers left in float on the way to
    integers, take a fifth more of the nodes' time than such nodes of the reference."""
    ops = SEPARATE | FLOAT_LAYERS if to_integers else SEPARATE
    own, others = _share(nodes, ops), _share(reference, SEPARATE)
    if own - others < UNFUSED_SHARE:
        return None
    named = _named([one for one in _by_time(nodes) if one.op in ops])
    return f"unfused: {named} take {own:.0%} of the nodes' time (reference {others:.0%})"


def memory_bound(nodes: NodesMeasured, reference: NodesMeasured) -> str | None:
    """Most of the time is in nodes that move their bytes about as fast as copying does, and about
    as many bytes move as in the reference."""
    moved, before = _moved(nodes), _moved(reference)
    total_s = sum(net_s(one, nodes) for one in nodes.nodes)
    if moved is None or before is None or moved < SAME_BYTES * before or total_s <= 0:
        return None
    near_s = sum(net_s(one, nodes) for one in nodes.nodes if _as_fast_as_copying(one, nodes.copies))
    if near_s < MEMORY_SHARE * total_s:
        return None
    return (f"memory-bound: nodes that move their bytes at over {COPY_SPEED_SHARE:.0%} of the "
            f"speed of copying take {near_s / total_s:.0%} of the nodes' time; "
            f"{moved / 1e6:.3g} MB move in a call (reference {before / 1e6:.3g} MB)")


def longest(nodes: NodesMeasured) -> str:
    """The nodes that take most, with their shares of all nodes' time."""
    total_s = sum(net_s(one, nodes) for one in nodes.nodes)
    if total_s <= 0:
        return "no node takes longer than one that computes nothing"
    told = [f"{_named([one])}{f' {one.name}' if one.name else ''} "
            f"{net_s(one, nodes) / total_s:.0%}" for one in _by_time(nodes)[:MOST_NAMED]]
    return f"the longest nodes are {', '.join(told)}"


def net_s(node: NodeTime, nodes: NodesMeasured) -> float:
    """Its time beyond that of as many nodes that compute nothing."""
    return max(node.time_s - node.node_count * (nodes.profiled_idle_s or 0.0), 0.0)


def _by_time(nodes: NodesMeasured) -> list[NodeTime]:
    return sorted(nodes.nodes, key=lambda one: -net_s(one, nodes))


def _share(nodes: NodesMeasured, ops: frozenset[str]) -> float:
    total_s = sum(net_s(one, nodes) for one in nodes.nodes)
    chosen_s = sum(net_s(one, nodes) for one in nodes.nodes if one.op in ops)
    return chosen_s / total_s if total_s > 0 else 0.0


def _as_fast_as_copying(node: NodeTime, copies: Sequence[Copy]) -> bool:
    """Against the copied size nearest to its own; a copy reads and writes every byte."""
    known = [copy for copy in copies if copy.time_s > 0 and copy.size_bytes > 0]
    if not node.moved_bytes or not known or node.time_s <= 0:
        return False
    half = node.moved_bytes / node.node_count / 2
    near = min(known, key=lambda copy: abs(log(copy.size_bytes / half)))
    speed = 2 * near.size_bytes / near.time_s
    return node.moved_bytes / node.time_s >= COPY_SPEED_SHARE * speed


def _moved(nodes: NodesMeasured) -> int | None:
    """Bytes of all nodes; None unless each tells its own."""
    moved = [one.moved_bytes for one in nodes.nodes]
    known = [size for size in moved if size is not None]
    return sum(known) if len(known) == len(moved) else None


def _named(nodes: Iterable[NodeTime]) -> str:
    """``Conv x 3, Relu``: ops in the order given, with how many."""
    counts: dict[str, int] = {}
    for one in nodes:
        counts[one.op] = counts.get(one.op, 0) + one.node_count
    told = [op if count == 1 else f"{op} x {count}" for op, count in counts.items()]
    more = ", ..." if len(told) > MOST_NAMED else ""
    return ", ".join(told[:MOST_NAMED]) + more


def _count(nodes: Iterable[NodeTime]) -> int:
    return sum(one.node_count for one in nodes)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"
