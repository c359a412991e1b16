"""What every runtime keeps, the fake included: in this process, and through a measuring child."""

import hashlib
import io
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import protocol
from agents.capabilities import proved
from agents.child.node_times import measure_nodes
from agents.jobs.infer import infer
from agents.jobs.prepare import prepare
from agents.measurement.child_process import ProcessChild
from agents.measurement.runner import MeasurementFailed, measure
from agents.protocol import (
    OUTPUT_LIMIT,
    ArtifactRef,
    InferPayload,
    InferResult,
    MeasureResult,
    NodeTime,
    PreparePayload,
    PrepareResult,
)
from agents.runtimes import RUNTIMES, runtime_named
from agents.runtimes.base import (
    ModelRefused,
    NotPrepared,
    NotProfiled,
    Runtime,
    RuntimeUnavailable,
    Session,
    input_values,
)

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


MODELS: dict[str, Callable[[int], bytes]] = {
    "onnxruntime": onnx_model, "trtexec": onnx_model, "fake": fake_model}


def put(folder: Path, content: bytes) -> str:
    path = folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    return str(path)


def test_every_runtime_is_under_contract() -> None:
    assert set(MODELS) == set(RUNTIMES)


def test_an_unknown_runtime_names_the_known_ones() -> None:
    with pytest.raises(RuntimeUnavailable, match="'torch'.*fake, onnxruntime, trtexec"):
        runtime_named("torch")


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param != "fake":
        pytest.importorskip("onnxruntime")
    if request.param == "trtexec":
        request.getfixturevalue("tensorrt")
    return str(request.param)


def made(name: str, folder: Path) -> Runtime:
    """The runtime with a folder for what it keeps."""
    runtime = runtime_named(name)
    runtime.folder = str(folder / "kept")
    return runtime


def opened(runtime: Runtime, path: str, options: Any = OPTIONS, seed: int = 0) -> Session:
    if runtime.traits.prepares:
        runtime.prepare(path, options)
    return runtime.open(path, options, seed)


def child_in(folder: Path) -> Callable[[str, dict[str, Any]], ProcessChild]:
    return lambda runtime, request: ProcessChild(
        runtime, dict(request, folder=str(folder / "kept")))


def prepared(folder: Path, name: str, model: bytes) -> PrepareResult:
    path = put(folder, model)
    asked = PreparePayload(ArtifactRef(Path(path).name, len(model)), name, OPTIONS)
    return prepare(asked, {Path(path).name: path}, child_in(folder), time.monotonic)


class TestRuntime:
    def test_it_tells_its_version_and_providers(self, name: str) -> None:
        versions = runtime_named(name).versions()
        assert isinstance(versions[name], str) and versions["providers"]
        json.dumps(versions)

    def test_it_is_what_the_protocol_says_of_it(self, name: str) -> None:
        """A coordinator knows this before any device is asked."""
        runtime, traits = runtime_named(name), protocol.RUNTIMES[name]
        assert runtime.traits is traits
        assert traits.providers[0] in runtime.versions()["providers"]

    def test_a_provider_is_proved_by_an_inference(self, name: str) -> None:
        def start(runtime: str, request: dict[str, Any]) -> ProcessChild:
            return ProcessChild(runtime, request)

        versions = runtime_named(name).versions()
        asked = dict(versions, providers=[*versions["providers"], "CUDAExecutionProvider"])
        found = proved(name, asked, start)
        assert found[name] == versions[name]
        assert set(found["providers"]) | set(found["unproven"]) == set(asked["providers"])
        assert found["providers"] and all(found["unproven"].values())
        if name != "trtexec":  # which has one provider, and does not ask for its name
            assert "CUDAExecutionProvider" in found["unproven"]

    def test_a_session_runs_and_its_clock_moves(self, name: str, tmp_path: Path) -> None:
        runtime = made(name, tmp_path)
        session = opened(runtime, put(tmp_path, MODELS[name](3)))
        before = runtime.clock_ns()
        session.run()
        assert isinstance(before, int) and runtime.clock_ns() > before
        assert session.provider.endswith("ExecutionProvider")

    def test_outputs_are_finite_floats_repeatable_and_bounded(
        self, name: str, tmp_path: Path
    ) -> None:
        runtime = made(name, tmp_path)
        path = put(tmp_path, MODELS[name](3000))
        first = opened(runtime, path, seed=7).first_output()
        assert len(first) == OUTPUT_LIMIT
        assert all(isinstance(value, float) and math.isfinite(value) for value in first)
        assert runtime.open(path, OPTIONS, 7).first_output() == first

    def test_outputs_for_given_inputs(self, name: str, tmp_path: Path) -> None:
        """For the bound input those of a timed call; for several samples one row each."""
        session = opened(made(name, tmp_path), put(tmp_path, MODELS[name](3)), seed=5)
        bound = np.array(input_values(3, 5), "<f4")
        content, shape = session.outputs(bound.tobytes(), [1, 3])
        assert shape == [1, 3]
        assert np.frombuffer(content, "<f4").tolist() == session.first_output()
        count = session.batch or 4
        content, shape = session.outputs(np.tile(bound, count).tobytes(), [count, 3])
        assert shape == [count, 3]
        rows = np.frombuffer(content, "<f4").reshape(shape)
        assert np.array_equal(rows, np.tile(rows[:1], (count, 1)))

    def test_a_data_set_is_answered_through_a_child(self, name: str, tmp_path: Path) -> None:
        result, inputs = answered(tmp_path, name, MODELS[name](3), samples=3)
        assert result.shape == [3, 3] and result.environment["runtime"][name]
        content = protocol.unpack_bytes(result.outputs, protocol.INFERRED_BYTES)
        session = opened(made(name, tmp_path), put(tmp_path, MODELS[name](3)))
        assert result.provider == session.provider
        size = session.batch or 3
        expected = b"".join(
            session.outputs(inputs[i:i + size].tobytes(), [size, 3])[0] for i in range(0, 3, size))
        assert content == expected

    def test_a_model_that_is_none_has_a_reason(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(MeasurementFailed) as caught:
            answered(tmp_path, name, b"", samples=2)
        assert caught.value.reason == "unloadable" and str(caught.value)

    def test_a_file_that_cannot_be_loaded_is_refused(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ModelRefused) as caught:
            made(name, tmp_path).open(put(tmp_path, b""), OPTIONS, 0)
        assert len(str(caught.value)) > 10 and "\n" not in str(caught.value)
        with pytest.raises(ModelRefused):
            made(name, tmp_path).open(str(tmp_path / "absent"), OPTIONS, 0)

    @pytest.mark.parametrize("batch", [0, -1, "1", 1.5, True])
    def test_a_batch_that_is_none_is_refused(self, name: str, tmp_path: Path, batch: Any) -> None:
        with pytest.raises(ModelRefused, match="'batch'"):
            made(name, tmp_path).open(put(tmp_path, MODELS[name](3)), {"batch": batch}, 0)

    def test_what_it_prepares_is_kept_and_what_it_does_not_is_refused(
        self, name: str, tmp_path: Path
    ) -> None:
        model = MODELS[name](3)
        if not runtime_named(name).traits.prepares:
            with pytest.raises(MeasurementFailed, match="nothing to prepare"):
                prepared(tmp_path, name, model)
            return
        with pytest.raises(NotPrepared, match="'prepare' done first"):
            made(name, tmp_path).open(put(tmp_path, model), OPTIONS, 0)
        first, again = (prepared(tmp_path, name, model) for _ in range(2))
        assert not first.reused and first.prepare_s > 0 and first.kept_bytes > 0
        assert again.reused and again.prepare_s == 0 and again.kept_bytes == first.kept_bytes
        assert first.environment["runtime"][name]
        with pytest.raises(MeasurementFailed) as caught:
            prepared(tmp_path, name, b"")
        assert caught.value.reason == "refused"

    def test_a_profiled_session_tells_its_nodes(self, name: str, tmp_path: Path) -> None:
        """Or the runtime says why it cannot."""
        runtime, path, folder = made(name, tmp_path), put(tmp_path, MODELS[name](3)), tmp_path / "p"
        folder.mkdir()
        with pytest.raises(NotProfiled, match=".{10}"):
            opened(runtime, path).node_times()
        try:
            session = runtime.open_profiled(path, OPTIONS, 0, str(folder))
        except NotProfiled as error:
            assert len(str(error)) > 10
            return
        assert session.first_output() == opened(runtime, path).first_output()
        session.run()
        nodes = session.node_times()
        assert nodes and all(isinstance(one, NodeTime) for one in nodes)
        assert all(one.op and one.node_count == 1 and one.time_s >= 0 for one in nodes)
        assert {one.provider for one in nodes} == {session.provider}
        with pytest.raises(ModelRefused):
            runtime.open_profiled(put(tmp_path, b""), OPTIONS, 0, str(folder))

    @pytest.mark.parametrize("count", [1, 9])
    def test_an_idle_model_runs_all_its_nodes(self, name: str, tmp_path: Path, count: int) -> None:
        runtime = made(name, tmp_path)
        content = runtime.idle_model(count)
        if content is None:
            return
        session = runtime.open_profiled(put(tmp_path, content), OPTIONS, 0, str(tmp_path))
        session.run()
        assert len(session.node_times()) == count

    def test_nodes_are_measured_beside_what_a_call_costs_anyway(
        self, name: str, tmp_path: Path
    ) -> None:
        runtime, alive = made(name, tmp_path), []
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
        if runtime_named(name).traits.in_process:
            assert valid.memory_bytes is not None and valid.memory_baseline_bytes is not None
            assert valid.memory_bytes >= valid.memory_baseline_bytes > 1e6
        else:
            assert valid.memory_bytes is None, "this process's is not the model's"
        assert valid.load_s is not None and valid.first_s is not None and valid.first_s > 0
        assert sum(valid.sample_blocks) > 0
        for nodes in (valid.nodes, result.reference_nodes):
            assert nodes is not None and bool(nodes.nodes) is not bool(nodes.problem)
        assert result.environment["runtime"][name]


def answered(folder: Path, name: str, model: bytes, samples: int) -> tuple[InferResult, np.ndarray]:
    inputs = np.random.default_rng(0).random((samples, 3), dtype="<f4")
    file = io.BytesIO()
    np.save(file, inputs)
    paths = {Path(path).name: path for path in (put(folder, model), put(folder, file.getvalue()))}
    refs = [ArtifactRef(sha256, 1) for sha256 in paths]
    asked = InferPayload(refs[0], refs[1], name, OPTIONS)
    if model and runtime_named(name).traits.prepares:
        prepared(folder, name, model)
    return infer(asked, paths, child_in(folder), time.monotonic), inputs


def measured(folder: Path, name: str, contents: list[bytes]) -> MeasureResult:
    refs = [{"sha256": hashlib.sha256(one).hexdigest(), "size_bytes": len(one)} for one in contents]
    paths = {Path(path).name: path for path in (put(folder, one) for one in contents)}
    payload = {"reference": refs[0], "candidates": refs[1:], "runtime": name, "options": OPTIONS,
               "plan": PLAN}
    for one in contents:
        if one and runtime_named(name).traits.prepares:
            prepared(folder, name, one)
    return measure(payload, paths, child_in(folder), time.monotonic)


class TestOnnxRuntime:
    """The input rule, which the searcher's evaluation shares."""

    def test_a_fixed_batch_is_filled_up(self, tmp_path: Path) -> None:
        onnx = pytest.importorskip("onnx")
        model = onnx.load_model_from_string(onnx_model(3))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 4
        result, inputs = answered(tmp_path, "onnxruntime", model.SerializeToString(), samples=6)
        content = protocol.unpack_bytes(result.outputs, 1000)
        assert result.shape == [6, 3]
        assert np.array_equal(np.frombuffer(content, "<f4").reshape(6, 3), inputs * 2)

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
