"""What ran where: the nodes of a measurement in a line, for commands."""

from collections.abc import Mapping
from typing import Any

from agents.protocol import NodesMeasured, decode
from searcher.statistics.bottlenecks import longest


def node_notes(summary: Mapping[str, Any] | None) -> list[str]:
    """``12 nodes on CPUExecutionProvider; the longest nodes are ...``; why it is not known; nothing
    for a plan that does not ask."""
    found = (summary or {}).get("nodes")
    if not found:
        return []
    nodes = decode(NodesMeasured, dict(found))
    if nodes.problem or not nodes.nodes:
        return [f"nodes: {nodes.problem or 'none was told'}"]
    counts: dict[str, int] = {}
    for one in nodes.nodes:
        counts[one.provider] = counts.get(one.provider, 0) + one.node_count
    where = ", ".join(f"{count} on {provider}" for provider, count in sorted(counts.items()))
    return [f"nodes: {where}; {longest(nodes)}"]
