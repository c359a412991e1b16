"""``measure`` with a coordinator: upload, inspection and measurement, the wire in between."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from searcher.api.app import create_app
from searcher.benchmark.one_file import FileBenchmark, compare_on, measure_on
from searcher.client.http import CoordinatorClient
from searcher.client.records import Job
from searcher.errors import UserError
from searcher.ledger.tables import devices as device_table
from searcher.spec.measurement_plan import plan_of
from searcher.spec.runtime_options import DEFAULT, Execution
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import Laboratory, envelope
from tests.searcher_tests.jobs.test_inspect import ACCEPTED, REFUSED

PLAN = plan_of("quick")
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CAPABILITIES = {
    "kinds": ["measure", "prepare"],
    "runtimes": {"onnxruntime": {"providers": [CPU], "unproven": {CUDA: "no driver"}},
                 "trtexec": {"providers": ["TensorrtExecutionProvider"]}}}


class Bench:
    """A coordinator whose builder and devices process one job at each call of ``say``."""

    def __init__(self, lab: Laboratory, client: CoordinatorClient, folder: Path) -> None:
        self.lab, self.client = lab, client
        self.model = folder / "model.onnx"
        self.model.write_bytes(b"a model" * 1000)
        self.sha256 = hashlib.sha256(self.model.read_bytes()).hexdigest()
        self.builder = lab.builder()
        self.found: dict[str, Any] = ACCEPTED
        self.said: list[str] = []
        self.kinds: list[str] = []
        self.devices: dict[str, Any] = {}
        self.prepared = envelope({"prepare_s": 60.0, "reused": False, "kept_bytes": 9,
                                  "environment": {}})

    def device(self, name: str, state: str = "active", hostname: str = "elsewhere") -> None:
        self.devices[name] = self.lab.device(name, hostname)
        with self.lab.store.atomic() as db:
            db.execute("UPDATE devices SET state = ?, capabilities = ? WHERE name = ?",
                       [state, json.dumps(CAPABILITIES), name])

    def say(self, text: str) -> None:
        self.said.append(text)
        for worker in (self.builder, *self.devices.values()):
            job = self.lab.coordinator.lease(worker)
            if job is not None:
                self.kinds.append(f"{job.kind} {job.pool}")
                inspection = envelope({"inspection": self.found})
                self.lab.put(worker, job, {"inspect": inspection, "prepare": self.prepared}.get(
                    job.kind) or self.lab.result(job))

    def measure(self, device: str | None = None,
                execution: Execution = DEFAULT) -> FileBenchmark:
        return measure_on(self.client, self.model, device, PLAN, self.say, None, execution)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    lab = Laboratory.open(tmp_path)
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        with CoordinatorClient("http://test", "operator", transport=server) as client:
            yield Bench(lab, client, tmp_path)
    lab.store.close()


def test_from_file_to_figures(bench: Bench) -> None:
    bench.device("tx2")
    found = bench.measure()
    assert bench.kinds == ["inspect builder", "measure device:tx2"]
    assert found.verdict == "valid" and found.n > 0
    assert {"latency_s", "load_s", "memory_bytes"} <= set(found.values)
    assert (bench.lab.folder / "artifacts" / bench.sha256).read_bytes() == bench.model.read_bytes()
    assert bench.said[0] == "uploading: 100 %" and "waiting for builder" in bench.said
    assert bench.said[-1] == "measured on tx2"


def test_the_second_time_nothing_is_sent_or_inspected(bench: Bench) -> None:
    bench.device("tx2")
    bench.measure()
    bench.kinds.clear()
    bench.said.clear()
    bench.measure()
    assert bench.kinds == ["measure device:tx2"] and "uploading: 100 %" not in bench.said


def test_this_machine_comes_first(bench: Bench) -> None:
    bench.device("tx2")
    bench.device("local_cpu")
    bench.measure()
    assert bench.kinds[-1] == "measure device:local_cpu"
    bench.measure("tx2")
    assert bench.kinds[-1] == "measure device:tx2"


def test_runtime_options_reach_the_job(bench: Bench) -> None:
    bench.device("tx2")
    found = bench.measure(execution=Execution(threads=2))
    [asked] = [json.loads(row[0]) for row in bench.lab.store.db.execute(
        "SELECT payload FROM jobs WHERE kind = 'measure'")]
    assert asked["options"] == {"threads": 2, "graph_level": "all", "batch": 1}
    assert found.measured_with == f"onnxruntime, {CPU}, 2 threads"


def test_an_untested_provider_is_refused_before_the_upload(bench: Bench) -> None:
    bench.device("tx2")
    with pytest.raises(UserError, match=f"has not run an inference with {CUDA} \\(no driver\\)"):
        bench.measure(execution=Execution(provider=CUDA))
    assert not (bench.lab.folder / "artifacts" / bench.sha256).exists()


def test_an_engine_is_prepared_first(bench: Bench) -> None:
    bench.device("tx2")
    engine = Execution("trtexec", "TensorrtExecutionProvider", precision="float16")
    assert bench.measure(execution=engine).verdict == "valid"
    assert bench.kinds == ["inspect builder", "prepare device:tx2", "measure device:tx2"]
    bench.kinds.clear()
    bench.measure(execution=engine)
    assert bench.kinds == ["measure device:tx2"], "the engine is kept"


def test_a_file_without_an_engine_says_why(bench: Bench) -> None:
    bench.device("tx2")
    bench.prepared = envelope({"reason": "unloadable", "message": "no such layer"}, "failed")
    with pytest.raises(UserError, match="could not be measured: .*no such layer"):
        bench.measure(execution=Execution("trtexec", "TensorrtExecutionProvider"))


def test_a_device_that_does_not_begin_in_time(bench: Bench) -> None:
    bench.device("tx2")
    bench.devices.clear()

    def later(text: str) -> None:
        bench.say(text)
        bench.lab.clock.advance(6.0)
        bench.lab.coordinator.tick()

    with pytest.raises(UserError, match="The job was not leased .* 'tx2' was last seen"):
        measure_on(bench.client, bench.model, None, PLAN, later, queue_s=5.0)


def test_a_refused_model(bench: Bench) -> None:
    bench.device("tx2")
    bench.found = REFUSED
    with pytest.raises(UserError, match="model.onnx is refused \\(external_data\\)"):
        bench.measure()
    with pytest.raises(UserError, match="external_data"):
        bench.measure()
    assert bench.kinds == ["inspect builder"], "refused once, refused without another look"


@pytest.mark.parametrize(("devices", "wanted", "said"), [
    ({}, None, "Active: none"),
    ({"tx2": "active", "nano": "active"}, None, "--device. Active: nano, tx2"),
    ({"tx2": "quarantined"}, None, "Active: none"),
    ({"tx2": "quarantined"}, "tx2", "'tx2' is quarantined"),
    ({"tx2": "active"}, "tx1", "Did you mean 'tx2'?"),
])
def test_which_device(bench: Bench, devices: dict[str, str], wanted: str | None,
                      said: str) -> None:
    for name, state in devices.items():
        bench.device(name, state)
    with pytest.raises(UserError, match=said.replace("?", "\\?")):
        bench.measure(wanted)
    assert not (bench.lab.folder / "artifacts" / bench.sha256).exists()


@pytest.mark.parametrize("failure", [
    {"reason": "unloadable", "message": "no such operator"},
    {"reason": "reference", "message": "The reference failed: no such operator"}])
def test_a_model_that_cannot_be_measured(bench: Bench, failure: dict[str, str]) -> None:
    bench.device("tx2")
    bench.lab.result = lambda job: envelope(failure, "failed")  # type: ignore[method-assign]
    with pytest.raises(UserError, match="model.onnx could not be measured: no such operator"):
        bench.measure()


def test_files_that_cannot_be_sent(bench: Bench, tmp_path: Path) -> None:
    bench.device("tx2")
    bench.model = tmp_path / "absent.onnx"
    with pytest.raises(UserError, match="no file .*absent.onnx"):
        bench.measure()
    bench.model.write_bytes(b"")
    with pytest.raises(UserError, match="is empty"):
        bench.measure()
    assert device_table.devices(bench.lab.store.db)


def test_two_files_are_uploaded_inspected_and_compared(bench: Bench, tmp_path: Path) -> None:
    bench.device("tx2")
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another model")
    worked = bench.client.wait_job

    def wait(job: int, wait_s: float = 0.0) -> Job:
        bench.say("waiting")
        return worked(job, wait_s=wait_s)

    bench.client.wait_job = wait  # type: ignore[method-assign]
    found = compare_on(bench.client, bench.model, other, None, 4.0, bench.said.append)
    assert bench.kinds[:2] == ["inspect builder"] * 2
    assert set(bench.kinds[2:]) == {"measure device:tx2"} and len(bench.kinds) >= 5
    assert found.verdict in ("slower", "faster", "equal", "undecided")
    assert len(found.looks) == len(bench.kinds) - 2
