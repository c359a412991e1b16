"""Causes of compressed files that are not faster: synthetic nodes, and real ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from agents.child.node_times import measure_nodes
from agents.protocol import Copy, NodesMeasured, NodeTime
from agents.runtimes import runtime_named
from searcher.artifacts.formats.onnx_operators import integer_format
from searcher.statistics.bottlenecks import (
    HOST,
    NO_GAIN,
    Costs,
    ProfiledFile,
    compressed,
    net_s,
    not_faster,
    why,
)
from searcher.statistics.measured import Ratio
from tests.searcher_tests.models import model_of, value_of

SAME = Ratio(1.02, 1.0, 1.04)
DENSE, THIN = Costs(1000, None), Costs(250, None)
COPIES = [Copy(1 << 16, 4e-6), Copy(1 << 20, 2e-4), Copy(1 << 24, 4e-3)]


def node(op: str, time_s: float, provider: str = HOST, moved: int | None = None,
         count: int = 1) -> NodeTime:
    return NodeTime(op.lower(), op, provider, time_s, count, moved)


def timed(*nodes: NodeTime, call_s: float = 1e-3, idle_call_s: float = 8e-6) -> NodesMeasured:
    return NodesMeasured("", call_s, idle_call_s, 4e-7, 2e-6, list(nodes), COPIES)


def told(own: NodesMeasured, other: NodesMeasured, costs: Costs = THIN,
         asked: str | None = None) -> str:
    found = not_faster(ProfiledFile(costs, own), ProfiledFile(DENSE, other), SAME, asked)
    assert found is not None
    return found


PLAIN = timed(node("Conv", 9e-4), node("Gemm", 1e-4))


@pytest.mark.parametrize("costs, how", [
    (Costs(800, None), "20% fewer multiply-accumulates"), (Costs(810, None), None),
    (Costs(None, None), None), (Costs(1000, "int8"), "int8"),
    (Costs(250, "int8"), "75% fewer multiply-accumulates and int8")])
def test_what_counts_as_compressed(costs: Costs, how: str | None) -> None:
    expected = None if how is None else f"{how} against the reference"
    assert compressed(costs, DENSE) == expected
    assert compressed(costs, Costs(0, "int8")) is None


def test_what_is_faster_or_may_be_says_nothing() -> None:
    sides = ProfiledFile(THIN, PLAIN), ProfiledFile(DENSE, PLAIN)
    assert not_faster(*sides, Ratio(0.5, 0.49, 0.51), None) is None
    assert not_faster(*sides, Ratio(1.0, 0.90, 1.1), None) is None
    assert not_faster(*sides, Ratio(0.96, 0.951, 0.97), None) is not None
    assert not_faster(ProfiledFile(DENSE, PLAIN), ProfiledFile(DENSE, PLAIN), SAME, None) is None


def test_no_cause_names_the_longest_nodes() -> None:
    assert told(PLAIN, PLAIN) == (
        "compressed but not faster: 75% fewer multiply-accumulates against the reference, yet "
        "1.020 times its latency [1.000 .. 1.040]; no cause found: the longest nodes are Conv conv "
        "90%, Gemm gemm 10%")


def test_nodes_beside_the_provider_asked_for() -> None:
    own = timed(node("Conv", 1e-5, "CUDAExecutionProvider"), node("Resize", 2e-5, count=3))
    assert ("provider fell back: 3 of 4 nodes did not run on CUDAExecutionProvider (Resize x 3)"
            in told(own, PLAIN, asked="CUDAExecutionProvider"))
    assert "fell back" not in told(PLAIN, PLAIN, asked=HOST)


def test_a_call_that_is_mostly_a_call() -> None:
    own = timed(*[node("Conv", 3e-6)] * 10, call_s=2e-5)
    assert ("launch-bound: a call of 10 nodes that compute nothing takes 11.6 us, its own 20 us"
            in told(own, PLAIN))
    assert "launch-bound" not in told(own._replace(call_s=4e-5), PLAIN)
    assert "launch-bound" not in told(own._replace(idle_call_s=None), PLAIN)


def test_conversions_by_themselves() -> None:
    own = timed(node("Conv", 6e-4), node("Transpose", 2e-4, count=2), node("Relu", 1e-4))
    assert "unfused: Transpose x 2, Relu take 33% of the nodes' time (reference 0%)" in told(
        own, PLAIN)
    assert "unfused" not in told(own, own), "the reference has them too"


def test_layers_left_in_float_on_the_way_to_int8() -> None:
    own = timed(node("QLinearConv", 2e-4), node("Conv", 3e-4), node("DequantizeLinear", 1e-4))
    found = told(own, PLAIN, costs=Costs(1000, "int8"))
    assert "unfused: Conv, DequantizeLinear take 67% of the nodes' time" in found
    assert "Conv" not in told(own, PLAIN).partition("unfused: ")[2].partition(" take ")[0]


def test_bytes_that_move_as_before() -> None:
    own = timed(node("Gemm", 4e-4, moved=4_000_000), node("Conv", 1e-4, moved=1000))
    before = timed(node("Gemm", 4e-4, moved=4_400_000), node("Conv", 4e-4, moved=1000))
    found = told(own, before)
    assert "memory-bound: nodes that move bytes at over 50% of the speed of a copy" in found
    assert "take 80% of the nodes' time; 4 MB move in a call (reference 4.4 MB)" in found
    fewer = timed(node("Gemm", 4e-4, moved=8_000_000), node("Conv", 4e-4, moved=1000))
    assert "memory-bound" not in told(own, fewer), "half the bytes, and still as slow"
    slow = timed(node("Gemm", 4e-3, moved=4_000_000), node("Conv", 1e-4, moved=1000))
    assert "memory-bound" not in told(slow, before)
    unknown = timed(node("Gemm", 4e-4, moved=4_000_000), node("Conv", 1e-4))
    assert "memory-bound" not in told(unknown, before)


def test_what_was_not_timed_is_said() -> None:
    gone = NodesMeasured("not profiled: crashed: signal 11")
    assert told(gone, PLAIN).endswith("; the cause is unknown: not profiled: crashed: signal 11")
    assert told(PLAIN, NodesMeasured("")).endswith("; the cause is unknown: no node was reported")


def test_of_an_accelerator_single_nodes_are_not_judged() -> None:
    own = timed(node("Transpose", 9e-4, "CUDAExecutionProvider"))
    assert told(own, PLAIN, asked="CUDAExecutionProvider").endswith(
        "no cause found: this provider does not report times of single nodes")


SECONDS = st.floats(1e-7, 1.0)
NODES = st.lists(st.builds(
    NodeTime, st.text(max_size=5), st.sampled_from(["Conv", "Relu", "QLinearConv", "Transpose"]),
    st.sampled_from([HOST, "CUDAExecutionProvider"]), SECONDS, st.integers(1, 9),
    st.none() | st.integers(0, 2**40)), max_size=6)
MEASURED = st.builds(
    NodesMeasured, st.sampled_from(["", "not profiled: x"]), st.none() | SECONDS,
    st.none() | SECONDS, st.none() | SECONDS, st.none() | SECONDS, NODES,
    st.lists(st.builds(Copy, st.integers(1, 2**30), SECONDS), max_size=3))
COSTS = st.builds(Costs, st.none() | st.integers(0, 10**9), st.sampled_from([None, "int8"]))
SIDES = st.builds(ProfiledFile, COSTS, MEASURED)
RATIOS = st.builds(Ratio, SECONDS, st.floats(0.1, 2.0), SECONDS)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, RATIOS, st.none() | st.just(HOST))
def test_it_speaks_of_compressed_files_without_a_gain_only(
    own: ProfiledFile, other: ProfiledFile, ratio: Ratio, asked: str | None
) -> None:
    found = not_faster(own, other, ratio, asked)
    wanted = compressed(own.costs, other.costs) is not None and ratio.low >= NO_GAIN
    assert (found is not None) is wanted
    assert found is None or found.endswith(why(own, other, asked))
    assert all(net_s(one, own.nodes) >= 0 for one in own.nodes.nodes)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(-8, 8))
def test_a_machine_that_is_slower_in_all_has_the_same_reasons(
    own: ProfiledFile, other: ProfiledFile, power: int
) -> None:
    def kinds(first: ProfiledFile, second: ProfiledFile) -> list[str]:
        return [reason.partition(":")[0] for reason in why(first, second, None).split("; ")]

    slower = [ProfiledFile(side.costs, _scaled(side.nodes, 2.0**power)) for side in (own, other)]
    assert kinds(own, other) == kinds(slower[0], slower[1])


def _scaled(measured: NodesMeasured, factor: float) -> NodesMeasured:
    def times(value: float | None) -> float | None:
        return None if value is None else value * factor

    return measured._replace(
        call_s=times(measured.call_s), idle_call_s=times(measured.idle_call_s),
        idle_node_s=times(measured.idle_node_s), profiled_idle_s=times(measured.profiled_idle_s),
        nodes=[one._replace(time_s=one.time_s * factor) for one in measured.nodes],
        copies=[one._replace(time_s=one.time_s * factor) for one in measured.copies])


class TestRealNodes:
    """Findings of ONNX Runtime for files that are constructed for each cause."""

    def nodes(self, folder: Path, model: Any) -> NodesMeasured:
        path = folder / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return measure_nodes(runtime_named("onnxruntime"), str(path), {"threads": 1}, 0,
                             lambda: None)

    def test_a_row_of_tiny_layers_is_launch_bound(self, tmp_path: Path) -> None:
        tiny = self.nodes(tmp_path, layers(4, 12))
        assert tiny.problem == "" and {one.provider for one in tiny.nodes} == {HOST}
        assert "launch-bound: a call of" in why(
            ProfiledFile(THIN, tiny), ProfiledFile(DENSE, tiny), HOST)
        wide = self.nodes(tmp_path, layers(768, 2))
        assert "launch-bound" not in why(ProfiledFile(THIN, wide), ProfiledFile(DENSE, wide), HOST)

    def test_weights_that_are_decoded_in_every_call_are_unfused(self, tmp_path: Path) -> None:
        plain = self.nodes(tmp_path, layers(512, 2))
        coded = self.nodes(tmp_path, layers(512, 2, int8=True))
        assert integer_format(one.op for one in coded.nodes)
        found = why(ProfiledFile(Costs(1000, "int8"), coded), ProfiledFile(DENSE, plain), None)
        assert "unfused: DequantizeLinear x 2" in found
        assert "unfused" not in why(ProfiledFile(THIN, plain), ProfiledFile(DENSE, plain), None)

    def test_every_node_tells_its_bytes(self, tmp_path: Path) -> None:
        wide = self.nodes(tmp_path, layers(512, 2))
        moved = [one.moved_bytes for one in wide.nodes if one.op == "MatMul"]
        assert moved == [4 * (512 + 512 * 512 + 512)] * 2, "packed weights count too"


def layers(width: int, depth: int, int8: bool = False) -> Any:
    """A chain of products with a square matrix, with a Sin between them that prevents fusing."""
    drawn = np.random.default_rng(0).integers(-9, 9, (width, width))
    tensors, nodes, before = [], [], "x"
    if int8:
        tensors.append(numpy_helper.from_array(np.array(0.01, np.float32), "scale"))
    for place in range(depth):
        kind = np.int8 if int8 else np.float32
        tensors.append(numpy_helper.from_array(drawn.astype(kind), f"w{place}"))
        weight = f"w{place}"
        if int8:
            nodes.append(helper.make_node("DequantizeLinear", [weight, "scale"], [f"d{place}"]))
            weight = f"d{place}"
        nodes.append(helper.make_node("MatMul", [before, weight], [f"p{place}"]))
        before = "y" if place == depth - 1 else f"s{place}"
        nodes.append(helper.make_node("Sin", [f"p{place}"], [before]))
    return model_of(nodes, tensors, [value_of("x", [1, width])],
                    outputs=[value_of("y", [1, width])])
