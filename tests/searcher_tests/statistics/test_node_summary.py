"""The nodes of a measurement in a line."""

from agents.protocol import NodesMeasured, NodeTime, as_json
from searcher.statistics.node_summary import node_notes


def test_how_many_nodes_ran_where_and_which_took_longest() -> None:
    nodes = NodesMeasured("", 1e-3, profiled_idle_s=1e-5, nodes=[
        NodeTime("conv1", "Conv", "CUDAExecutionProvider", 4e-5),
        NodeTime("", "Shape", "CPUExecutionProvider", 4e-5, node_count=3)])
    assert node_notes({"nodes": as_json(nodes)}) == [
        "nodes: 3 on CPUExecutionProvider, 1 on CUDAExecutionProvider; "
        "the longest nodes are Conv conv1 75%, Shape x 3 25%"]


def test_why_there_are_none() -> None:
    gone = NodesMeasured("not profiled: this runtime tells none")
    assert node_notes({"nodes": as_json(gone)}) == ["nodes: not profiled: this runtime tells none"]
    assert node_notes(None) == node_notes({}) == []
