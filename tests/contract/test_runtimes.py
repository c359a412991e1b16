"""The contract of ``fleetfront_testing.runtimes`` for every built-in runtime, the fake included."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import protocol
from agents.measurement.supervision import JobFailed
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


def text_model() -> bytes:
    onnx = pytest.importorskip("onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.STRING, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    content: bytes = onnx.helper.make_model(graph, opset_imports=[
        onnx.helper.make_opsetid("", 13)], ir_version=7).SerializeToString()
    return content


def two_of_each(*kinds: str) -> bytes:
    """Inputs ``image`` and ``tokens`` of ``kinds`` and of the shapes (n, 2, 2) and (n, 3); outputs
    ``sums`` = the tokens summed with the image's mean, float32 (n, 3), ``positive`` = tokens > 0 as
    bool (n, 3), ``shape`` = that of ``tokens``, and ``copy`` = ``tokens``."""
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    image, tokens = (getattr(types, kind) for kind in kinds)
    inputs = [helper.make_tensor_value_info("image", image, ["n", 2, 2]),
              helper.make_tensor_value_info("tokens", tokens, ["n", 3])]
    outputs = [helper.make_tensor_value_info("sums", types.FLOAT, ["n", 3]),
               helper.make_tensor_value_info("positive", types.BOOL, ["n", 3]),
               helper.make_tensor_value_info("shape", types.INT64, [2]),
               helper.make_tensor_value_info("copy", tokens, ["n", 3])]
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=types.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["mean"], ["column"], axes=[1]),
        helper.make_node("Cast", ["tokens"], ["numbers"], to=types.FLOAT),
        helper.make_node("Add", ["numbers", "column"], ["sums"]),
        helper.make_node("Greater", ["numbers", "zero"], ["positive"]),
        helper.make_node("Shape", ["tokens"], ["shape"]),
        helper.make_node("Identity", ["tokens"], ["copy"])]
    graph = helper.make_graph(nodes, "g", inputs, outputs,
                              [helper.make_tensor("zero", types.FLOAT, [1], [0.0])])
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6).SerializeToString()
    return content


SIX = {"image": np.arange(24, dtype="<f4").reshape(6, 2, 2),
       "tokens": np.arange(18, dtype="<i8").reshape(6, 3) % 5}
"""A data set for ``two_of_each``."""


def inferred(result: protocol.InferResult) -> dict[str, np.ndarray]:
    """The outputs of a result by name."""
    first = protocol.InferredOutput(result.name, result.kind, result.shape, result.outputs)
    return {one.name: np.frombuffer(
        protocol.unpack_bytes(one.outputs, protocol.INFERRED_BYTES), one.kind).reshape(one.shape)
        for one in (first, *result.others)}


def expected_of_six() -> dict[str, np.ndarray]:
    means = SIX["image"].mean(axis=(1, 2), keepdims=True).reshape(6, 1)
    return {"sums": (SIX["tokens"] + means).astype("<f4"), "positive": SIX["tokens"] > 0,
            "copy": SIX["tokens"]}


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
        assert session.bound_outputs() == pytest.approx((values * 2).tolist(), rel=1e-7)
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

    def test_unknown_levels_and_inputs_that_are_no_numbers_are_refused(
        self, bench: RuntimeBench
    ) -> None:
        runtime = bench.runtime()
        with pytest.raises(ModelRefused, match="all, basic, disable, got 'max'"):
            runtime.open(bench.write(onnx_model()), {"graph_level": "max"}, 0)
        with pytest.raises(ModelRefused, match=r"'x' is a tensor\(string\)"):
            runtime.open(bench.write(text_model()), OPTIONS, 0)
        half = runtime.open(bench.write(onnx_model(kind="FLOAT16")), OPTIONS, 0)
        assert len(half.bound_outputs()) == 3

    @pytest.mark.parametrize("samples", [None, 4], ids=["free batch", "batch of 4"])
    def test_several_inputs_and_outputs_of_any_type(
            self, bench: RuntimeBench, samples: int | None) -> None:
        """An output without an axis of samples, ``shape``, is left out."""
        onnx = pytest.importorskip("onnx")
        model = onnx.load_model_from_string(two_of_each("FLOAT", "INT64"))
        for value in (*model.graph.input, *model.graph.output):
            if samples is not None and len(value.type.tensor_type.shape.dim) > 1:
                value.type.tensor_type.shape.dim[0].dim_value = samples
        found = inferred(bench.infer(model.SerializeToString(), SIX))
        assert list(found) == ["sums", "positive", "copy"]
        for name, wanted in expected_of_six().items():
            assert found[name].dtype == wanted.dtype and np.array_equal(found[name], wanted)

    def test_only_the_outputs_that_are_asked_for(self, bench: RuntimeBench) -> None:
        found = inferred(bench.infer(two_of_each("FLOAT", "INT64"), SIX, ["positive"]))
        assert np.array_equal(found.pop("positive"), SIX["tokens"] > 0) and not found
        with pytest.raises(JobFailed, match="no output 'logits', only 'sums', 'positive'"):
            bench.infer(two_of_each("FLOAT", "INT64"), SIX, ["logits"])
        with pytest.raises(JobFailed, match="the output 'shape' is <i8 of the shape"):
            bench.infer(two_of_each("FLOAT", "INT64"), SIX, ["shape"])

    @pytest.mark.parametrize(("inputs", "text"), [
        (SIX["image"], "inputs 'image', 'tokens', the data set has no names"),
        ({"image": SIX["image"], "words": SIX["tokens"]}, "the data set 'image', 'words'"),
        ({"image": SIX["image"], "tokens": SIX["tokens"].astype("<i4")},
         "'tokens' is int64, the data set has int32"),
        ({"image": SIX["image"], "tokens": SIX["tokens"][:5]}, "'image' has 6, 'tokens' has 5"),
    ])
    def test_a_data_set_that_does_not_fit_is_refused_in_words(
            self, bench: RuntimeBench, inputs: Any, text: str) -> None:
        with pytest.raises(JobFailed) as caught:
            bench.infer(two_of_each("FLOAT", "INT64"), inputs)
        assert caught.value.reason == "refused" and text in str(caught.value)

    @pytest.mark.parametrize("kinds", [("FLOAT", "INT64"), ("UINT8", "INT32"), ("DOUBLE", "BOOL")])
    def test_integers_of_the_timing_input_are_0_and_1(
            self, bench: RuntimeBench, kinds: tuple[str, str]) -> None:
        found = bench.measure([two_of_each(*kinds), two_of_each(*kinds) + b"\x12\x00"])
        (measured,) = found.measurements
        assert measured.verdict == "valid"
        source = random.Random(0)
        drawn = np.array([source.random() for _ in range(4)])
        tokens = (drawn[:3] >= 0.5).astype(np.float32)
        image = drawn.astype(np.float32) if kinds[0] != "UINT8" else drawn >= 0.5
        sums = tokens + image.mean(dtype=np.float32)
        assert measured.outputs == pytest.approx(
            [*sums, *tokens, 1.0, 3.0, *tokens], rel=1e-6), "all outputs, in order"

    def test_values_that_are_not_finite_fail_the_candidate(self, bench: RuntimeBench) -> None:
        result = bench.measure([onnx_model(), onnx_model(scale=math.inf)])
        assert result.measurements[0].verdict == "failed"
        assert result.measurements[0].reasons == ["not finite: the value 0 of the outputs"]
