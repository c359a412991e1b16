"""The contract of a runtime, as pytest classes.

A package that registers a runtime by the entry point group ``fleetfront.runtimes`` tests it with::

    from fleetfront_testing.runtimes import RuntimeContract

    class TestMyRuntime(RuntimeContract):
        name = "myruntime"

        def model(self, width: int) -> bytes:
            return ...

Part of the suite calls the runtime in the test's process, part measures through a child process,
as an agent does.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import protocol
from agents.capabilities import prove_providers, runtime_start
from agents.child.node_times import measure_nodes
from agents.child.request import ChildRequest
from agents.jobs.infer import infer
from agents.jobs.prepare import prepare
from agents.measurement.child_process import ProcessChild
from agents.measurement.runner import measure
from agents.measurement.supervision import JobFailed
from agents.runtimes import runtime_named
from agents.runtimes.base import (
    ModelRefused,
    NotPrepared,
    NotProfiled,
    Runtime,
    Session,
    input_values,
)
from agents.timing.arrays import Values
from agents.timing.dataset import ONLY
from searcher.artifacts import arrays

OPTIONS: Mapping[str, object] = {"threads": 1, "graph_level": "all", "batch": 1}
PLAN = {"name": "contract", "block_s": 0.002, "min_blocks": 2, "min_s": 0.0, "max_s": 0.1,
        "gate": 9.0, "fresh_session_every_s": 0.05, "warmup_s": 0.002, "memory": True,
        "nodes": True}


class RuntimeBench:
    """One runtime with a folder of its own, in this process and through measuring children."""

    def __init__(self, name: str, folder: Path, options: Mapping[str, object] = OPTIONS) -> None:
        self.name, self.folder, self.options = name, folder, dict(options)

    def runtime(self) -> Runtime:
        """A new instance with a folder for what it prepares."""
        runtime = runtime_named(self.name)
        runtime.folder = str(self.folder / "kept")
        return runtime

    def write(self, content: bytes) -> str:
        """The path of a file with this content; its name is the content's SHA-256."""
        path = self.folder / hashlib.sha256(content).hexdigest()
        path.write_bytes(content)
        return str(path)

    def open(self, runtime: Runtime, path: str, input_seed: int = 0) -> Session:
        """A session, prepared first if the runtime needs that."""
        if runtime.traits.prepares:
            runtime.prepare(path, self.options)
        return runtime.open(path, self.options, input_seed)

    def start_child(self, runtime: str, request: ChildRequest) -> ProcessChild:
        """A measuring child whose runtime keeps what it prepares in this bench's folder."""
        return ProcessChild(runtime, request._replace(folder=str(self.folder / "kept")))

    def prepare(self, model: bytes) -> protocol.PrepareResult:
        """A job of kind ``prepare`` through a child. Raises JobFailed."""
        path = self.write(model)
        payload = protocol.PreparePayload(
            protocol.ArtifactRef(Path(path).name, len(model)), self.name, self.options)
        return prepare(payload, {Path(path).name: path}, self.start_child, time.monotonic)

    def infer(self, model: bytes, inputs: np.ndarray | Mapping[str, np.ndarray],
              outputs: Sequence[str] = ()) -> protocol.InferResult:
        """A job of kind ``infer`` through a child, with a .npy file or, for arrays by input, a .npz
        file. ``outputs`` are the ones to answer. Raises JobFailed."""
        data = arrays.packed(inputs if isinstance(inputs, Mapping) else {arrays.ONLY: inputs})
        paths = {Path(path).name: path
                 for path in (self.write(model), self.write(data))}
        refs = [protocol.ArtifactRef(sha256, 1) for sha256 in paths]
        self._prepare_all([model])
        payload = protocol.InferPayload(refs[0], refs[1], self.name, self.options,
                                        outputs=list(outputs))
        return infer(payload, paths, self.start_child, time.monotonic)

    def measure(self, models: Sequence[bytes]) -> protocol.MeasureResult:
        """A job of kind ``measure`` through children; the first model is the reference. Raises
        JobFailed."""
        paths = {Path(path).name: path for path in map(self.write, models)}
        refs = [{"sha256": hashlib.sha256(one).hexdigest(), "size_bytes": len(one)}
                for one in models]
        self._prepare_all(models)
        payload = {"reference": refs[0], "candidates": refs[1:], "runtime": self.name,
                   "options": self.options, "plan": PLAN}
        return measure(payload, paths, self.start_child, time.monotonic)

    def _prepare_all(self, models: Sequence[bytes]) -> None:
        if protocol.RUNTIMES[self.name].prepares:
            for one in models:
                if one:
                    self.prepare(one)


def values_of(array: np.ndarray) -> Values:
    """An array as a session takes it."""
    return Values(array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes())


def array_of(values: Values) -> np.ndarray:
    """An array that a session returned."""
    return np.frombuffer(values.content, values.kind).reshape(values.shape)


class RuntimeContract:
    """What every runtime must do. Subclass it under a name that begins with ``Test``.

    ``name`` is the runtime's. ``options`` are those of its sessions. ``damaged_model`` is a file
    that it cannot load. ``foreign_provider`` is a provider that it must not prove; None if the
    runtime has one provider and ignores the name.
    """

    name = ""
    options: Mapping[str, object] = OPTIONS
    damaged_model = b""
    foreign_provider: str | None = "NoSuchExecutionProvider"

    def model(self, width: int) -> bytes:
        """A file in the runtime's first format: float32 of shape (batch, ``width``) in, a first
        output of the same shape out."""
        raise NotImplementedError("model() must be overridden")

    @pytest.fixture
    def bench(self, tmp_path: Path) -> RuntimeBench:
        """Override it to skip where the library is missing, or to set up its environment."""
        return RuntimeBench(self.name, tmp_path, self.options)

    def runs_in(self, environment: Mapping[str, object]) -> bool:
        """Whether the environment of a result has the version of this runtime."""
        versions = environment["runtime"]
        return isinstance(versions, dict) and bool(versions[self.name])

    def test_versions_name_the_library_and_its_providers(self, bench: RuntimeBench) -> None:
        versions = bench.runtime().versions()
        assert isinstance(versions[self.name], str) and runtime_start(versions).providers
        json.dumps(versions)

    def test_its_row_agrees_with_its_providers(self, bench: RuntimeBench) -> None:
        row = protocol.RUNTIMES[self.name]
        assert row.name == self.name and row.formats and row.proof
        assert row.providers[0] in runtime_start(bench.runtime().versions()).providers
        assert {row.draws(provider) for provider in row.providers} <= {"cpu", "gpu"}

    def test_a_provider_is_proved_by_an_inference(self, bench: RuntimeBench) -> None:
        start = runtime_start(bench.runtime().versions())
        foreign = [self.foreign_provider] if self.foreign_provider is not None else []
        asked = [*start.providers, *foreign]
        found = prove_providers(self.name, start._replace(providers=asked), bench.start_child)
        assert found.versions[self.name] == start.versions[self.name]
        assert set(found.providers) | set(found.unproven) == set(asked)
        assert found.providers and all(found.unproven.values())
        assert set(foreign) <= set(found.unproven)

    def test_a_call_moves_the_clock(self, bench: RuntimeBench) -> None:
        runtime = bench.runtime()
        session = bench.open(runtime, bench.write(self.model(3)))
        before = runtime.clock_ns()
        session.run()
        assert isinstance(before, int) and runtime.clock_ns() > before
        assert session.provider

    def test_outputs_are_finite_repeatable_and_bounded(self, bench: RuntimeBench) -> None:
        runtime, path = bench.runtime(), bench.write(self.model(3000))
        first = bench.open(runtime, path, input_seed=7).bound_outputs()
        assert len(first) == protocol.OUTPUT_LIMIT
        assert all(isinstance(value, float) and math.isfinite(value) for value in first)
        assert runtime.open(path, bench.options, 7).bound_outputs() == first

    def test_outputs_of_given_inputs(self, bench: RuntimeBench) -> None:
        """Equal to those of a timed call for the bound input; one row per sample."""
        session = bench.open(bench.runtime(), bench.write(self.model(3)), input_seed=5)
        bound = np.array(input_values(3, 5), "<f4").reshape(1, 3)
        (found,) = session.outputs({ONLY: values_of(bound)}).values()
        assert found.kind == "<f4" and found.shape == [1, 3]
        assert array_of(found).ravel().tolist() == session.bound_outputs()
        count = session.batch or 4
        (found,) = session.outputs({ONLY: values_of(np.tile(bound, (count, 1)))}).values()
        assert found.shape == [count, 3]
        assert np.array_equal(array_of(found), np.tile(array_of(found)[:1], (count, 1)))

    def test_a_data_set_is_inferred_through_a_child(self, bench: RuntimeBench) -> None:
        inputs = np.random.default_rng(0).random((3, 3), dtype="<f4")
        result = bench.infer(self.model(3), inputs)
        assert result.shape == [3, 3] and self.runs_in(result.environment)
        content = protocol.unpack_bytes(result.outputs, protocol.INFERRED_BYTES)
        session = bench.open(bench.runtime(), bench.write(self.model(3)))
        assert result.provider == session.provider
        size = session.batch or 3
        rows = [session.outputs({ONLY: values_of(inputs[i:i + size])})
                for i in range(0, 3, size)]
        assert set(rows[0]) == {result.name} and not result.others
        assert content == b"".join(one[result.name].content for one in rows)

    def test_a_file_that_is_no_model_fails_the_job_with_its_reason(
        self, bench: RuntimeBench
    ) -> None:
        with pytest.raises(JobFailed) as caught:
            bench.infer(b"", np.zeros((2, 3), "<f4"))
        assert caught.value.reason == "unloadable" and str(caught.value)

    def test_a_file_that_cannot_be_loaded_is_refused(self, bench: RuntimeBench) -> None:
        with pytest.raises(ModelRefused) as caught:
            bench.runtime().open(bench.write(b""), bench.options, 0)
        assert len(str(caught.value)) > 10 and "\n" not in str(caught.value)
        with pytest.raises(ModelRefused):
            bench.runtime().open(str(bench.folder / "absent"), bench.options, 0)

    @pytest.mark.parametrize("batch", [0, -1, "1", 1.5, True])
    def test_an_invalid_batch_is_refused(self, bench: RuntimeBench, batch: Any) -> None:
        with pytest.raises(ModelRefused, match="'batch'"):
            bench.runtime().open(bench.write(self.model(3)), {**bench.options, "batch": batch}, 0)

    def test_what_it_prepares_is_kept(self, bench: RuntimeBench) -> None:
        """A runtime that prepares nothing refuses the job."""
        if not protocol.RUNTIMES[self.name].prepares:
            with pytest.raises(JobFailed, match="nothing to prepare"):
                bench.prepare(self.model(3))
            return
        with pytest.raises(NotPrepared, match=".{10}"):
            bench.runtime().open(bench.write(self.model(3)), bench.options, 0)
        first, again = (bench.prepare(self.model(3)) for _ in range(2))
        assert not first.reused and first.prepare_s > 0 and first.kept_bytes > 0
        assert again.reused and again.prepare_s == 0 and again.kept_bytes == first.kept_bytes
        assert self.runs_in(first.environment)
        with pytest.raises(JobFailed) as caught:
            bench.prepare(b"")
        assert caught.value.reason == "refused"

    def test_a_profiled_session_times_its_nodes(self, bench: RuntimeBench) -> None:
        """Or the runtime says why it cannot."""
        runtime, path, folder = bench.runtime(), bench.write(self.model(3)), bench.folder / "p"
        folder.mkdir()
        with pytest.raises(NotProfiled, match=".{10}"):
            bench.open(runtime, path).node_times()
        try:
            session = runtime.open_profiled(path, bench.options, 0, str(folder))
        except NotProfiled as error:
            assert len(str(error)) > 10
            return
        assert session.bound_outputs() == bench.open(runtime, path).bound_outputs()
        session.run()
        nodes = session.node_times()
        assert nodes and all(isinstance(one, protocol.NodeTime) for one in nodes)
        assert all(one.op and one.node_count == 1 and one.time_s >= 0 for one in nodes)
        assert {one.provider for one in nodes} == {session.provider}
        with pytest.raises(ModelRefused):
            runtime.open_profiled(bench.write(b""), bench.options, 0, str(folder))

    @pytest.mark.parametrize("count", [1, 9])
    def test_an_idle_model_runs_all_its_nodes(self, bench: RuntimeBench, count: int) -> None:
        runtime = bench.runtime()
        content = runtime.idle_model(count)
        if content is None:
            return
        session = runtime.open_profiled(
            bench.write(content), bench.options, 0, str(bench.folder))
        session.run()
        assert len(session.node_times()) == count

    def test_nodes_are_timed_beside_the_overhead_of_a_call(self, bench: RuntimeBench) -> None:
        runtime, steps = bench.runtime(), []
        found = measure_nodes(runtime, bench.write(self.model(3)), bench.options, 0,
                              lambda: steps.append(1))
        assert len(steps) > 3 and found.call_s is not None or found.problem
        if runtime.idle_model(1) is not None and not found.problem:
            assert found.idle_call_s is not None and found.idle_call_s > 0
            assert found.idle_node_s is not None and found.profiled_idle_s is not None
        assert all(copy.size_bytes > 0 and copy.time_s > 0 for copy in found.copies)
        refused = measure_nodes(runtime, bench.write(b""), bench.options, 0, lambda: None)
        assert refused.problem.startswith("not profiled: ") and not refused.nodes

    def test_it_is_measured_through_a_child(self, bench: RuntimeBench) -> None:
        result = bench.measure([self.model(3), self.damaged_model, self.model(4)])
        refused, valid = result.measurements
        assert refused.verdict == "failed" and refused.reasons[0].startswith("unloadable: ")
        assert valid.verdict == "valid" and len(valid.outputs) == 4
        if protocol.RUNTIMES[self.name].in_process:
            assert valid.memory_bytes is not None and valid.memory_baseline_bytes is not None
            assert valid.memory_bytes >= valid.memory_baseline_bytes > 1e6
        else:
            assert valid.memory_bytes is None, "the model runs in another process"
        assert valid.load_s is not None and valid.first_s is not None and valid.first_s > 0
        assert sum(valid.sample_blocks) > 0
        for nodes in (valid.nodes, result.reference_nodes):
            assert nodes is not None and bool(nodes.nodes) is not bool(nodes.problem)
        assert self.runs_in(result.environment)
