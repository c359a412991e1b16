"""The nodes of a measurement in one line, for commands."""

from collections.abc import Mapping
from typing import Any

from agents.protocol import NodesMeasured, decode
from searcher.statistics.bottlenecks import longest


def node_notes(summary: Mapping[str, Any] | None) -> list[str]:
    """``nodes: 12 on CPUExecutionProvider; the longest nodes are ...``, or why it is unknown. Empty
    for a plan without node times."""
    found = (summary or {}).get("nodes")
    if not found:
        return []
    nodes = decode(NodesMeasured, dict(found))
    if nodes.problem or not nodes.nodes:
        return [f"nodes: {nodes.problem or 'none was reported'}"]
    counts: dict[str, int] = {}
    for one in nodes.nodes:
        counts[one.provider] = counts.get(one.provider, 0) + one.node_count
    where = ", ".join(f"{count} on {provider}" for provider, count in sorted(counts.items()))
    return [f"nodes: {where}; {longest(nodes)}"]
