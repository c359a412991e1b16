"""Where the nodes of a measured file ran, in one line for commands."""

from searcher.statistics.bottlenecks import longest
from searcher.statistics.measured import Summary


def node_notes(summary: Summary | None) -> list[str]:
    """``nodes: 12 on CPUExecutionProvider; the longest nodes are ...``, or why it is unknown. Empty
    for a plan without node times."""
    nodes = None if summary is None else summary.nodes
    if nodes is None:
        return []
    if nodes.problem or not nodes.nodes:
        return [f"nodes: {nodes.problem or 'the agent sent none'}"]
    counts: dict[str, int] = {}
    for one in nodes.nodes:
        counts[one.provider] = counts.get(one.provider, 0) + one.node_count
    where = ", ".join(f"{count} on {provider}" for provider, count in sorted(counts.items()))
    return [f"nodes: {where}; {longest(nodes)}"]
