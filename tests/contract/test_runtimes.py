"""The contract of ``fleetfront_testing.runtimes`` for every built-in runtime, the fake included."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from agents import protocol
from agents.protocol.runtimes import BUILT_IN
from agents.runtimes import runtime_named
from agents.runtimes.base import ModelRefused, RuntimeUnavailable, input_values
from fleetfront_testing.runtimes import OPTIONS, RuntimeBench, RuntimeContract


def onnx_model(outputs: int = 3, kind: str = "FLOAT", scale: float = 2.0) -> bytes:
    """``y = scale * x`` of shape (batch, outputs); opset 11, so that old runtimes load it."""
    onnx = pytest.importorskip("onnx")
    tensor = getattr(onnx.TensorProto, kind)
    x = onnx.helper.make_tensor_value_info("x", tensor, ["n", outputs])
    y = onnx.helper.make_tensor_value_info("y", tensor, ["n", outputs])
    factor = onnx.helper.make_tensor("k", tensor, [1], [scale])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Mul", ["x", "k"], ["y"])], "g", [x], [y],
                                   [factor])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=6)
    content: bytes = model.SerializeToString()
    return content


def layers_model() -> bytes:
    """``y = relu(x w + b)`` of shape (1, 4)."""
    onnx = pytest.importorskip("onnx")
    floats = onnx.TensorProto.FLOAT
    x, y = (onnx.helper.make_tensor_value_info(name, floats, [1, 4]) for name in "xy")
    weights = [onnx.helper.make_tensor("w", floats, [4, 4], [0.5] * 16),
               onnx.helper.make_tensor("b", floats, [4], [0.25] * 4)]
    layers = (("MatMul", ["x", "w"], "p"), ("Add", ["p", "b"], "s"), ("Relu", ["s"], "y"))
    nodes = [onnx.helper.make_node(op, inputs, [output], name=op.lower())
             for op, inputs, output in layers]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", [x], [y], weights),
        opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=6)
    content: bytes = model.SerializeToString()
    return content


def fake_model(outputs: int = 3) -> bytes:
    return json.dumps({"fake_model": 1, "outputs": [0.5] * outputs}).encode()


def test_every_runtime_is_under_contract() -> None:
    assert {suite.name for suite in RuntimeContract.__subclasses__()} == {
        row.name for row in BUILT_IN}


def test_an_unknown_runtime_names_the_known_ones() -> None:
    with pytest.raises(RuntimeUnavailable, match="'torch'.*fake, onnxruntime, trtexec"):
        runtime_named("torch")


class TestFake(RuntimeContract):
    name = "fake"

    def model(self, width: int) -> bytes:
        return fake_model(width)


class TestTrtexec(RuntimeContract):
    name = "trtexec"
    foreign_provider = None

    def model(self, width: int) -> bytes:
        return onnx_model(width)

    @pytest.fixture
    def bench(self, tensorrt: Path, tmp_path: Path) -> RuntimeBench:
        pytest.importorskip("onnxruntime")  # computes the outputs of the script
        return RuntimeBench(self.name, tmp_path)


class TestOnnxRuntime(RuntimeContract):
    """Also the rule of the timing input, which the searcher's evaluation shares."""

    name = "onnxruntime"
    damaged_model = b"\x00 no model"

    def model(self, width: int) -> bytes:
        return onnx_model(width)

    @pytest.fixture
    def bench(self, tmp_path: Path) -> RuntimeBench:
        pytest.importorskip("onnxruntime")
        return RuntimeBench(self.name, tmp_path)

    def test_a_fixed_batch_is_filled_up(self, bench: RuntimeBench) -> None:
        onnx = pytest.importorskip("onnx")
        model = onnx.load_model_from_string(onnx_model(3))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 4
        inputs = np.random.default_rng(0).random((6, 3), dtype="<f4")
        result = bench.infer(model.SerializeToString(), inputs)
        content = protocol.unpack_bytes(result.outputs, 1000)
        assert result.shape == [6, 3]
        assert np.array_equal(np.frombuffer(content, "<f4").reshape(6, 3), inputs * 2)

    @pytest.mark.parametrize("batch", [1, 4])
    def test_the_input_is_seeded_in_c_order_as_float32(
        self, bench: RuntimeBench, batch: int
    ) -> None:
        session = bench.runtime().open(bench.write(onnx_model(5)), {"batch": batch}, 3)
        source = random.Random(3)
        values = np.array([source.random() for _ in range(5 * batch)], dtype=np.float32)
        assert session.first_output() == pytest.approx((values * 2).tolist(), rel=1e-7)
        assert input_values(2, 3) == [random.Random(3).random(), input_values(2, 3)[1]]

    @pytest.mark.parametrize("level", ["all", "basic", "disable"])
    def test_graph_levels(self, bench: RuntimeBench, level: str) -> None:
        options = dict(OPTIONS, graph_level=level)
        session = bench.runtime().open(bench.write(onnx_model()), options, 0)
        assert session.provider == "CPUExecutionProvider"

    def test_the_profile_shows_what_was_fused(self, bench: RuntimeBench) -> None:
        runtime = bench.runtime()
        path = bench.write(layers_model())
        ops = {}
        for level in ("all", "disable"):
            session = runtime.open_profiled(path, dict(OPTIONS, graph_level=level), 0,
                                            str(bench.folder))
            session.run()
            nodes = session.node_times()
            ops[level] = [one.op for one in nodes]
            assert all(one.provider == "CPUExecutionProvider" for one in nodes)
            # Four floats in, sixteen weights, packed or not, four floats out.
            bias = 4 * 4 if level == "all" else 0
            assert nodes[0].moved_bytes == 4 * (4 + 16 + 4) + bias
        assert ops["disable"] == ["MatMul", "Add", "Relu"]
        assert len(ops["all"]) < 3

    def test_unknown_levels_and_inputs_that_are_no_floats_are_refused(
        self, bench: RuntimeBench
    ) -> None:
        runtime = bench.runtime()
        with pytest.raises(ModelRefused, match="all, basic, disable, got 'max'"):
            runtime.open(bench.write(onnx_model()), {"graph_level": "max"}, 0)
        with pytest.raises(ModelRefused, match="int64"):
            runtime.open(bench.write(onnx_model(kind="INT64", scale=2)), OPTIONS, 0)
        half = runtime.open(bench.write(onnx_model(kind="FLOAT16")), OPTIONS, 0)
        assert len(half.first_output()) == 3

    def test_values_that_are_not_finite_fail_the_candidate(self, bench: RuntimeBench) -> None:
        result = bench.measure([onnx_model(), onnx_model(scale=math.inf)])
        assert result.measurements[0].verdict == "failed"
        assert result.measurements[0].reasons == ["not finite: the value 0 of the first output"]
