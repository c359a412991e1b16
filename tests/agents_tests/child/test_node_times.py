"""Times of single nodes, and reading ONNX Runtime's profile."""

import pytest

from agents.child.node_times import longest_first
from agents.protocol import NodeTime
from agents.runtimes.ort_profile import node_times


def kernel(name, op, dur, index="1", **args):
    return {"cat": "Node", "name": name + "_kernel_time", "dur": dur, "args": dict(
        {"op_name": op, "provider": "P", "node_index": index}, **args)}


RUN = {"cat": "Session", "name": "model_run", "dur": 99}
SIZES = {"activation_size": "10", "parameter_size": "20", "output_size": "5"}


def test_the_first_call_of_several_does_not_count():
    events = [RUN] * 3 + [kernel("c", "Conv", dur) for dur in (900, 20, 10)]
    (one,) = node_times(events)
    assert (one.name, one.op, one.provider, one.node_count) == ("c", "Conv", "P", 1)
    assert one.time_s == pytest.approx(15e-6) and one.moved_bytes is None
    assert node_times([RUN, kernel("c", "Conv", 900)])[0].time_s == 900e-6


def test_nodes_are_distinguished_by_index_and_keep_their_order():
    events = [RUN, *(kernel("", op, 10, place) for op, place in (
        ("Relu", "4"), ("Conv", "2"), ("Relu", "3"), ("Relu", "4")))]
    assert [(one.op, one.time_s) for one in node_times(events)] == [
        ("Relu", 2e-5), ("Conv", 1e-5), ("Relu", 1e-5)]


def test_what_runs_inside_a_loop_counts_once_for_all_its_turns():
    events = [RUN, RUN, kernel("loop", "Loop", 500), *[kernel("add", "Add", 10, "7")] * 6,
              {"cat": "Node", "name": "add_fence_before", "dur": 3, "args": {"op_name": "Add"}}]
    assert [(one.op, one.time_s) for one in node_times(events)] == [
        ("Add", pytest.approx(30e-6))]


def test_bytes_are_those_of_the_session_that_packs_no_weights():
    timed = [RUN, kernel("c", "Conv", 5, activation_size="10", parameter_size="0", output_size="5")]
    assert node_times(timed)[0].moved_bytes is None
    assert node_times(timed, [RUN, kernel("c", "Conv", 9, **SIZES)])[0].moved_bytes == 35
    assert node_times(timed, [RUN, kernel("d", "Conv", 9, **SIZES)])[0].moved_bytes is None
    assert node_times(timed, [RUN, kernel("c", "Conv", 9, output_size="5")])[0].moved_bytes is None


def test_the_longest_come_first_and_the_rest_together():
    nodes = [NodeTime(name, op, "P", time_s, moved_bytes=moved) for name, op, time_s, moved in (
        ("a", "Add", 1.0, 8), ("b", "Conv", 9.0, 8), ("c", "Add", 2.0, 8), ("d", "Mul", 1.5, None),
        ("e", "Mul", 0.5, 8))]
    told = longest_first(nodes, kept=1)
    assert told[0] == nodes[1]
    assert set(told[1:]) == {NodeTime("", "Add", "P", 3.0, 2, 16), NodeTime("", "Mul", "P", 2.0, 2)}
    assert longest_first(nodes) == sorted(nodes, key=lambda one: -one.time_s)
    assert longest_first([]) == []
