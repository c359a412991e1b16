"""What every runtime keeps, the fake included: in this process, and through a measuring child."""

import hashlib
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.children import CHILD_NAMES, ProcessChild
from agents.node_times import measure_nodes
from agents.protocol import OUTPUT_LIMIT, MeasureResult, NodeTime
from agents.runner import measure
from agents.runtimes import RUNTIMES, runtime_named
from agents.runtimes.base import ModelRefused, NotProfiled, RuntimeUnavailable, input_values

OPTIONS: dict[str, Any] = {"threads": 1, "graph_level": "all", "batch": 1}
PLAN = {"name": "test", "block_s": 0.002, "min_blocks": 2, "min_s": 0.0, "max_s": 0.1, "gate": 9.0,
        "fresh_session_every_s": 0.05, "warmup_s": 0.002, "memory": True, "nodes": True}


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


MODELS: dict[str, Callable[[int], bytes]] = {"onnxruntime": onnx_model, "fake": fake_model}


def put(folder: Path, content: bytes) -> str:
    path = folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    return str(path)


def test_every_runtime_is_under_contract() -> None:
    assert set(MODELS) == set(RUNTIMES) == set(CHILD_NAMES)


def test_an_unknown_runtime_names_the_known_ones() -> None:
    with pytest.raises(RuntimeUnavailable, match="'torch'.*fake, onnxruntime"):
        runtime_named("torch")


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "onnxruntime":
        pytest.importorskip("onnxruntime")
    return str(request.param)


class TestRuntime:
    def test_it_tells_its_version_and_providers(self, name: str) -> None:
        versions = runtime_named(name).versions()
        assert isinstance(versions[name], str) and versions["providers"]
        json.dumps(versions)

    def test_a_session_runs_and_its_clock_moves(self, name: str, tmp_path: Path) -> None:
        runtime = runtime_named(name)
        session = runtime.open(put(tmp_path, MODELS[name](3)), OPTIONS, 0)
        before = runtime.clock_ns()
        session.run()
        assert isinstance(before, int) and runtime.clock_ns() > before
        assert session.provider.endswith("ExecutionProvider")

    def test_outputs_are_finite_floats_repeatable_and_bounded(
        self, name: str, tmp_path: Path
    ) -> None:
        runtime = runtime_named(name)
        path = put(tmp_path, MODELS[name](3000))
        first = runtime.open(path, OPTIONS, 7).first_output()
        assert len(first) == OUTPUT_LIMIT
        assert all(isinstance(value, float) and math.isfinite(value) for value in first)
        assert runtime.open(path, OPTIONS, 7).first_output() == first

    def test_a_file_that_cannot_be_loaded_is_refused(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ModelRefused) as caught:
            runtime_named(name).open(put(tmp_path, b""), OPTIONS, 0)
        assert len(str(caught.value)) > 10 and "\n" not in str(caught.value)
        with pytest.raises(ModelRefused):
            runtime_named(name).open(str(tmp_path / "absent"), OPTIONS, 0)

    @pytest.mark.parametrize("batch", [0, -1, "1", 1.5, True])
    def test_a_batch_that_is_none_is_refused(self, name: str, tmp_path: Path, batch: Any) -> None:
        with pytest.raises(ModelRefused, match="'batch'"):
            runtime_named(name).open(put(tmp_path, MODELS[name](3)), {"batch": batch}, 0)

    def test_a_profiled_session_tells_its_nodes(self, name: str, tmp_path: Path) -> None:
        """Or the runtime says why it cannot."""
        runtime, path, folder = runtime_named(name), put(tmp_path, MODELS[name](3)), tmp_path / "p"
        folder.mkdir()
        with pytest.raises(NotProfiled, match=".{10}"):
            runtime.open(path, OPTIONS, 0).node_times()
        try:
            session = runtime.open_profiled(path, OPTIONS, 0, str(folder))
        except NotProfiled as error:
            assert len(str(error)) > 10
            return
        assert session.first_output() == runtime.open(path, OPTIONS, 0).first_output()
        session.run()
        nodes = session.node_times()
        assert nodes and all(isinstance(one, NodeTime) for one in nodes)
        assert all(one.op and one.node_count == 1 and one.time_s >= 0 for one in nodes)
        assert {one.provider for one in nodes} == {session.provider}
        with pytest.raises(ModelRefused):
            runtime.open_profiled(put(tmp_path, b""), OPTIONS, 0, str(folder))

    @pytest.mark.parametrize("count", [1, 9])
    def test_an_idle_model_runs_all_its_nodes(self, name: str, tmp_path: Path, count: int) -> None:
        runtime = runtime_named(name)
        content = runtime.idle_model(count)
        if content is None:
            return
        session = runtime.open_profiled(put(tmp_path, content), OPTIONS, 0, str(tmp_path))
        session.run()
        assert len(session.node_times()) == count

    def test_nodes_are_measured_beside_what_a_call_costs_anyway(
        self, name: str, tmp_path: Path
    ) -> None:
        runtime, alive = runtime_named(name), []
        found = measure_nodes(runtime, put(tmp_path, MODELS[name](3)), OPTIONS, 0,
                              lambda: alive.append(1))
        assert len(alive) > 3 and found.call_s is not None or found.problem
        if runtime.idle_model(1) is not None and not found.problem:
            assert found.idle_call_s is not None and found.idle_call_s > 0
            assert found.idle_node_s is not None and found.profiled_idle_s is not None
        assert all(copy.size_bytes > 0 and copy.time_s > 0 for copy in found.copies)
        refused = measure_nodes(runtime, put(tmp_path, b""), OPTIONS, 0, lambda: None)
        assert refused.problem.startswith("not profiled: ") and not refused.nodes

    def test_it_is_measured_through_a_child(self, name: str, tmp_path: Path) -> None:
        good, bad = MODELS[name](3), b"\x00 no model" if name == "onnxruntime" else b""
        result = measured(tmp_path, name, [good, bad, MODELS[name](4)])
        refused, valid = result.measurements
        assert refused.verdict == "failed" and refused.reasons[0].startswith("unloadable: ")
        assert valid.verdict == "valid" and len(valid.outputs) == 4
        assert valid.memory_bytes is not None and valid.memory_baseline_bytes is not None
        assert valid.memory_bytes >= valid.memory_baseline_bytes > 1e6
        assert valid.load_s is not None and valid.first_s is not None and valid.first_s > 0
        assert sum(valid.sample_blocks) > 0
        for nodes in (valid.nodes, result.reference_nodes):
            assert nodes is not None and bool(nodes.nodes) is not bool(nodes.problem)
        assert result.environment["runtime"][name]


def measured(folder: Path, name: str, contents: list[bytes]) -> MeasureResult:
    refs = [{"sha256": hashlib.sha256(one).hexdigest(), "size_bytes": len(one)} for one in contents]
    paths = {Path(path).name: path for path in (put(folder, one) for one in contents)}
    payload = {"reference": refs[0], "candidates": refs[1:], "runtime": name, "options": OPTIONS,
               "plan": PLAN}
    return measure(payload, paths, ProcessChild, time.monotonic)


class TestOnnxRuntime:
    """The input rule, which the searcher's evaluation shares."""

    @pytest.mark.parametrize("batch", [1, 4])
    def test_the_input_is_seeded_in_c_order_as_float32(self, tmp_path: Path, batch: int) -> None:
        pytest.importorskip("onnxruntime")
        session = runtime_named("onnxruntime").open(
            put(tmp_path, onnx_model(5)), {"batch": batch}, 3)
        source = random.Random(3)
        values = np.array([source.random() for _ in range(5 * batch)], dtype=np.float32)
        assert session.first_output() == pytest.approx((values * 2).tolist(), rel=1e-7)
        assert input_values(2, 3) == [random.Random(3).random(), input_values(2, 3)[1]]

    @pytest.mark.parametrize("level", ["all", "basic", "disable"])
    def test_graph_levels(self, tmp_path: Path, level: str) -> None:
        pytest.importorskip("onnxruntime")
        options = dict(OPTIONS, graph_level=level)
        session = runtime_named("onnxruntime").open(put(tmp_path, onnx_model()), options, 0)
        assert session.provider == "CPUExecutionProvider"

    def test_the_profile_shows_what_was_fused(self, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        runtime = runtime_named("onnxruntime")
        path = put(tmp_path, layers_model())
        ops = {}
        for level in ("all", "disable"):
            session = runtime.open_profiled(path, dict(OPTIONS, graph_level=level), 0,
                                            str(tmp_path))
            session.run()
            nodes = session.node_times()
            ops[level] = [one.op for one in nodes]
            assert all(one.provider == "CPUExecutionProvider" for one in nodes)
            # Four floats in, sixteen weights, packed or not, four floats out.
            bias = 4 * 4 if level == "all" else 0
            assert nodes[0].moved_bytes == 4 * (4 + 16 + 4) + bias
        assert ops["disable"] == ["MatMul", "Add", "Relu"]
        assert len(ops["all"]) < 3

    def test_unknown_levels_and_inputs_that_are_no_floats_are_refused(self, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        runtime = runtime_named("onnxruntime")
        with pytest.raises(ModelRefused, match="all, basic, disable, got 'max'"):
            runtime.open(put(tmp_path, onnx_model()), {"graph_level": "max"}, 0)
        with pytest.raises(ModelRefused, match="int64"):
            runtime.open(put(tmp_path, onnx_model(kind="INT64", scale=2)), OPTIONS, 0)
        half = runtime.open(put(tmp_path, onnx_model(kind="FLOAT16")), OPTIONS, 0)
        assert len(half.first_output()) == 3

    def test_values_that_are_not_finite_fail_the_candidate(self, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime")
        result = measured(tmp_path, "onnxruntime", [onnx_model(), onnx_model(scale=math.inf)])
        assert result.measurements[0].verdict == "failed"
        assert result.measurements[0].reasons == ["not finite: the value 0 of the first output"]
