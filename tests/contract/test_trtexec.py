"""What only TensorRT's command line program can do wrong, and the engines that are kept of it."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.child.request import ChildRequest
from agents.measurement.child_process import ProcessChild
from agents.measurement.supervision import JobFailed
from agents.runtimes import runtime_named
from agents.runtimes.base import ModelRefused, Runtime, RuntimeUnavailable
from agents.runtimes.engines import ENGINE, EngineStore
from agents.runtimes.onnx_signature import (
    InvalidOnnx,
    ModelSignature,
    TensorSignature,
    model_signature,
)
from fleetfront_testing.runtimes import OPTIONS, RuntimeBench
from tests.contract.test_runtimes import (
    SIX,
    expected_of_six,
    inferred,
    onnx_model,
    two_of_each,
)

pytest.importorskip("onnxruntime")


@pytest.fixture
def bench(tensorrt: Path, tmp_path: Path) -> RuntimeBench:
    return RuntimeBench("trtexec", tmp_path)


@pytest.fixture
def runtime(bench: RuntimeBench) -> Runtime:
    return bench.runtime()


def test_it_runs_only_with_flags_that_both_versions_know(
        tensorrt: Path, bench: RuntimeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("8201", "100300"):
        monkeypatch.setenv("FAKE_TENSORRT", version)
        runtime, model = bench.runtime(), bench.write(onnx_model(4))
        for precision in ("float32", "float16", "int8", "best"):
            options = {**OPTIONS, "precision": precision}
            assert runtime.prepare(model, options).kept_bytes > 0
        session = runtime.open(model, options, 0)
        session.run()
        assert len(session.bound_outputs()) == 4
        assert runtime.versions()["trtexec"] == version
    builds = [line.split() for line in tensorrt.read_text().splitlines() if "--onnx" in line]
    assert len(builds) == 8
    assert [next(w for w in line if w in ("--noTF32", "--fp16", "--int8", "--best"))
            for line in builds[:4]] == ["--noTF32", "--fp16", "--int8", "--best"]
    assert all("--optShapes=x:1x4" in line for line in builds)


def test_an_engine_of_another_version_or_other_options_is_another(
        runtime: Runtime, bench: RuntimeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    model = bench.write(onnx_model())
    runtime.prepare(model, OPTIONS)
    assert runtime.open(model, OPTIONS, 0).batch == 1
    for other in ({**OPTIONS, "batch": 8}, {**OPTIONS, "precision": "float16"}):
        with pytest.raises(ModelRefused, match="No engine"):
            runtime.open(model, other, 0)
    monkeypatch.setenv("FAKE_TENSORRT", "100300")
    with pytest.raises(ModelRefused, match="No engine"):
        bench.runtime().open(model, OPTIONS, 0)


def test_the_warm_up_is_not_among_the_samples(runtime: Runtime, bench: RuntimeBench) -> None:
    model = bench.write(onnx_model())
    runtime.prepare(model, OPTIONS)
    session = runtime.open(model, OPTIONS, 0)
    session.run()
    before = runtime.clock_ns()
    for _ in range(300):
        session.run()
    each_s = (runtime.clock_ns() - before) / 300e9
    assert each_s == pytest.approx(0.0005, rel=0.02), "what the program tells, not what it took"


@pytest.mark.parametrize(("mood", "reason", "text"), [
    ("crash@build", "refused", "signal 11"), ("no-engine", "refused", "left no engine")])
def test_a_build_that_goes_wrong_has_a_reason(
        bench: RuntimeBench, monkeypatch: pytest.MonkeyPatch, mood: str, reason: str,
        text: str) -> None:
    monkeypatch.setenv("FAKE_TRTEXEC", mood)
    with pytest.raises(JobFailed, match=text) as caught:
        bench.prepare(onnx_model())
    assert caught.value.reason == reason


def test_the_first_error_of_its_log_is_the_reason(runtime: Runtime, bench: RuntimeBench) -> None:
    broken = bench.write(onnx_model() + b"\x7a\x04\x00 no")  # a field that no ONNX has
    with pytest.raises(ModelRefused, match="exit code 1: Failed to parse onnx file"):
        runtime.prepare(broken, OPTIONS)


def test_a_crash_while_it_is_measured_is_a_failed_candidate(
        bench: RuntimeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [onnx_model(3), onnx_model(4)]
    for one in contents:
        bench.prepare(one)
    monkeypatch.setenv("FAKE_TRTEXEC", "crash@load")
    with pytest.raises(JobFailed, match="reference failed: .*signal 11"):
        bench.measure(contents)


def _command(process: psutil.Process) -> list[str]:
    """Empty for a process that ended since it was listed."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_hang_ends_with_the_child(
        bench: RuntimeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent kills the child that waits for it; nothing of it stays."""
    monkeypatch.setenv("FAKE_TRTEXEC", "hang@build")
    model = bench.write(onnx_model())
    child = ProcessChild("trtexec", ChildRequest(
        "prepare", [0], [model], options=dict(OPTIONS), folder=str(bench.folder / "kept")))
    ends_s = time.monotonic() + 60
    hung: list[psutil.Process] = []
    while not hung and time.monotonic() < ends_s:
        child.next_event(0.05)
        hung = [one for one in psutil.Process().children(recursive=True)
                if any("--onnx=" + model in word for word in _command(one))]
    child.close()
    gone, alive = psutil.wait_procs(hung, timeout=30)
    assert gone and not alive


def test_outputs_that_are_not_finite_fail(
        runtime: Runtime, bench: RuntimeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    model = bench.write(onnx_model())
    runtime.prepare(model, OPTIONS)
    monkeypatch.setenv("FAKE_TRTEXEC", "nan")
    assert all(value != value for value in runtime.open(model, OPTIONS, 0).bound_outputs())


@pytest.mark.parametrize("version", ["8201", "100300"])
@pytest.mark.parametrize("kinds", [("FLOAT", "INT64"), ("FLOAT", "INT32")])
def test_several_inputs_and_outputs(bench: RuntimeBench, monkeypatch: pytest.MonkeyPatch,
                                    tensorrt: Path, version: str, kinds: tuple[str, str]) -> None:
    """TensorRT 8 reads int32 where the file says int64; integers are never noise."""
    monkeypatch.setenv("FAKE_TENSORRT", version)
    kind = "<i8" if kinds[1] == "INT64" else "<i4"
    found = inferred(bench.infer(
        two_of_each(*kinds), {**SIX, "tokens": SIX["tokens"].astype(kind)}))
    for name, wanted in expected_of_six().items():
        assert np.array_equal(found[name], wanted) and found[name].dtype == (
            kind if name == "copy" else wanted.dtype)
    session = bench.open(bench.runtime(), bench.write(two_of_each(*kinds)), input_seed=2)
    assert [value in (0.0, 1.0) for value in session.bound_outputs()[3:6]] == [True] * 3
    session.run()
    timed = [line for line in tensorrt.read_text().splitlines() if "--exportTimes" in line]
    assert all("--loadInputs=image:" in line and ",tokens:" in line for line in timed)
    builds = [line for line in tensorrt.read_text().splitlines() if "--onnx" in line]
    assert all("--optShapes=image:1x2x2,tokens:1x3" in line for line in builds)


def test_what_trtexec_cannot_read_is_refused_in_words(
        runtime: Runtime, bench: RuntimeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelRefused, match="'image' of ONNX type 2 and shape"):
        runtime.prepare(bench.write(two_of_each("UINT8", "INT64")), OPTIONS)
    with pytest.raises(JobFailed, match="'tokens' has numbers beyond int32"):
        bench.infer(two_of_each("FLOAT", "INT64"), {**SIX, "tokens": SIX["tokens"] + 2**33})


def test_a_missing_program_is_reported_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeUnavailable, match="no trtexec in PATH"):
        runtime_named("trtexec").versions()


# -- engines ----------------------------------------------------------------------------------


def test_the_engines_unused_for_longest_go(tmp_path: Path) -> None:
    engines = EngineStore(str(tmp_path / "kept"), "8201", limit_bytes=250)
    paths = []
    for number in range(4):
        model = tmp_path / f"model{number}"
        model.write_bytes(bytes([number]))
        paths.append(engines.path(str(model), {"batch": 1}))
        partial = tmp_path / "partial"
        partial.write_bytes(bytes(100))
        assert engines.keep(str(partial), paths[-1]) == 100
        for age, path in enumerate(reversed(paths)):
            if os.path.exists(path):
                os.utime(path, (1000 - age, 1000 - age))
        if number == 1:
            engines.has(paths[0])
    assert len(set(paths)) == 4 and all(path.endswith(ENGINE) for path in paths)
    assert [engines.has(path) for path in paths] == [False, False, True, True]
    (tmp_path / "partial").write_bytes(bytes(1000))
    engines.keep(str(tmp_path / "partial"), paths[0])
    assert [engines.has(path) for path in paths] == [True, False, False, False], "the newest stays"


# -- inputs and outputs of a file -------------------------------------------------------------


def test_ports_are_those_that_onnx_reads() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(onnx_model(5))
    # Old files name their constants among the inputs.
    model.graph.input.append(onnx.helper.make_tensor_value_info("k", onnx.TensorProto.FLOAT, [1]))
    assert model_signature(model.SerializeToString()) == ModelSignature(
        [TensorSignature("x", 1, [None, 5])], [TensorSignature("y", 1, [None, 5])])


@given(st.binary(max_size=60), st.integers(0, 200))
def test_bytes_that_are_no_model_are_refused(noise: bytes, at: int) -> None:
    whole: Any = onnx_model()
    for content in (noise, whole[:at], whole[:at] + noise):
        try:
            assert isinstance(model_signature(content), ModelSignature)
        except InvalidOnnx as error:
            assert str(error)
