"""Summary of a measurement's nodes in one line."""

from dataclasses import replace

from agents.protocol import NodesMeasured, NodeTime
from searcher.statistics.node_summary import node_notes
from tests.searcher_tests.statistics.test_energy import WITHOUT


def test_how_many_nodes_ran_where_and_which_took_longest() -> None:
    nodes = NodesMeasured("", 1e-3, profiled_idle_s=1e-5, nodes=[
        NodeTime("conv1", "Conv", "CUDAExecutionProvider", 4e-5),
        NodeTime("", "Shape", "CPUExecutionProvider", 4e-5, node_count=3)])
    assert node_notes(replace(WITHOUT, nodes=nodes)) == [
        "nodes: 3 on CPUExecutionProvider, 1 on CUDAExecutionProvider; "
        "the longest nodes are Conv conv1 75%, Shape x 3 25%"]


def test_why_there_are_none() -> None:
    gone = NodesMeasured("not profiled: this runtime tells none")
    assert node_notes(replace(WITHOUT, nodes=gone)) == [
        "nodes: not profiled: this runtime tells none"]
    assert node_notes(None) == node_notes(WITHOUT) == []
