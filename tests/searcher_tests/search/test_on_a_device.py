"""A whole campaign on a device: the real search, coordinator and builder, and what an agent does
with its jobs, in child processes; only TensorRT is the script in ``tests/fake_tensorrt``."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.capabilities import capabilities
from agents.child.request import ChildRequest
from agents.jobs.base import JobContext
from agents.jobs.catalog import KINDS
from agents.measurement.child_process import ProcessChild
from agents.measurement.runner import measure
from agents.measurement.supervision import JobFailed
from agents.platform.sysfs import SystemTree
from agents.protocol import MeasurePayload, decode
from searcher.api.app import create_app
from searcher.artifacts import arrays
from searcher.builders.process import execute
from searcher.builders.work import Workshop
from searcher.client.http import CoordinatorClient
from searcher.client.records import FinishedJobs, Job
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.tables import jobs, search_state, spans
from searcher.ledger.tables.search_state import FileRef
from searcher.results.view import Reading
from searcher.search import process
from searcher.spec.campaign import from_document
from tests.conftest import TINY
from tests.searcher_tests import models
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import Laboratory, envelope
from tests.searcher_tests.fake_coordinator import requests_of

DEVICE = "desktop_gpu"
TWO_INPUTS = "tests.tasks_for_tests:two_inputs"
SPEC: dict[str, Any] = {
    "name": "there", "task": TINY, "budget": {"candidates": 1, "wall_minutes": 1},
    "constraints": {"file_bytes": 1},
    "measurement": {"plan": {"min_blocks": 6, "max_s": 1.0, "block_s": 0.0005, "gate": 9.0,
                             "warmup_s": 0.001, "fresh_session_every_s": 9.0}},
    "search": {"sampler": "random", "strategies": ["channel_pruning", "int8"]}}


class Device:
    """Does the work of an agent without its main loop."""

    def __init__(self, folder: Path, runtime: str) -> None:
        self._folder = folder
        self.capabilities = capabilities([runtime], sys.executable).as_json()

    def do(self, job: JobRow, artifacts: Path) -> bytes:
        parsed = KINDS[job.kind].parse(job.payload)
        paths = {file.sha256: str(artifacts / file.sha256) for file in parsed.files}
        try:
            return envelope(parsed.run(JobContext(
                paths, self._child, SystemTree(str(self._folder / "no sysfs")))))
        except JobFailed as error:
            return envelope({"reason": error.reason, "message": str(error)}, "failed")

    def _child(self, runtime: str, request: ChildRequest) -> ProcessChild:
        return ProcessChild(runtime, request._replace(folder=str(self._folder / "engines")))


class Client(CoordinatorClient):
    """Processes every queued job instead of waiting for it."""

    lab: Laboratory
    workers: tuple[tuple[AgentRow, Any], ...]

    def finished(self, campaign: str, after: int = 0, wait_s: float = 0.0) -> FinishedJobs:
        self._work()
        return super().finished(campaign, after, 0.0)

    def wait_job(self, job: int, wait_s: float = 0.0) -> Job:
        self._work()
        return super().wait_job(job, 0.0)

    def _work(self) -> None:
        for worker, do in self.workers:
            while (job := self.lab.coordinator.lease(worker)) is not None:
                self.lab.put(worker, job, do(job))


@contextmanager
def searched(folder: Path, spec: Mapping[str, Any] = SPEC, **keys: Any) -> Iterator[Laboratory]:
    """After a campaign on a device that runs files as ``keys`` say. The builder finds the trained
    baseline in ``folder``."""
    lab, workshop = Laboratory.open(folder), Workshop(folder)
    device = Device(folder, keys.get("runtime", "onnxruntime"))
    token, _ = lab.coordinator.roster.invite(DEVICE, "agent", DEVICE, 60.0)
    _, secret = lab.coordinator.enrol(token, DEVICE, {"hostname": "far"}, device.capabilities)
    agent = lab.coordinator.roster.recognised(secret)
    assert agent is not None
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        client = Client("http://test", "operator", transport=server)
        client.lab, client.workers = lab, (
            (lab.builder(), lambda job: envelope(execute(workshop, job))),
            (agent, lambda job: device.do(job, folder / "artifacts")))
        client.create_campaign(
            from_document({**spec, "devices": [{"profile": DEVICE, **keys}]}).as_dict())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process, "connect", lambda directory: client)
            process.search(folder, "there")
        yield lab
    lab.store.close()


def test_with_engines(tensorrt: Path, builds: Path) -> None:
    """The candidate exceeds the size constraint and is not trained, which saves time."""
    with searched(builds.parent, runtime="trtexec") as lab:
        db, place = lab.store.db, f"{DEVICE}/trtexec/TensorrtExecutionProvider"
        front, done = Reading(lab.folder).front("there"), jobs.finished(db, "there", 0)
        assert front.measured_with == "trtexec, TensorrtExecutionProvider"
        assert front.quality_place == place
        assert {"accuracy", "accuracy_test", "latency_s"} <= set(front.baseline.values)
        asked = [(job.kind, job.state, job.payload["options"]["batch"]) for job in done
                 if job.kind in ("prepare", "infer")
                 and job.payload["model"]["sha256"] == front.baseline.sha256]
        assert asked == [("prepare", "done", 1), ("prepare", "done", 100),
                         ("infer", "done", 100), ("infer", "done", 100)]
        [candidate] = Reading(lab.folder).candidates("there")
        assert candidate.trial.state == "pruned" and "file_bytes" in str(candidate.trial.reason)
        measured = candidate.measurement
        assert measured is not None and measured.verdict == "valid"
        assert (measured.runtime, measured.provider, measured.options) == (
            "trtexec", "TensorrtExecutionProvider", {"batch": 1})
        row, _ = Reading(lab.folder).campaign("there")
        state = search_state.get(db, "there", DEVICE)
        assert row.state == "done" and state is not None
        assert state.notes[-1] == (
            "int8 is left out: trtexec, TensorrtExecutionProvider runs no files in int8")
        kinds = {span.kind for span in spans.history(db, "there")}
        assert {"prepare", "measure", "infer"} <= kinds
        built = [line for line in tensorrt.read_text().splitlines() if "--saveEngine" in line]
        assert len(built) == len([job for job in done if job.kind == "prepare"]) == 3


def test_two_inputs_and_the_second_of_two_outputs(tmp_path: Path) -> None:
    """The device gets both inputs in their own types, and answers the judged output only; its
    figures are those of the host."""
    spec = {**SPEC, "task": TWO_INPUTS,
            "search": {"sampler": "random", "strategies": ["magnitude_pruning"]}}
    with searched(tmp_path, spec, runtime="onnxruntime") as lab:
        front, done = Reading(lab.folder).front("there"), jobs.finished(lab.store.db, "there", 0)
        assert front.quality_place == f"{DEVICE}/onnxruntime/CPUExecutionProvider"
        asked = [job for job in done if job.kind == "infer"]
        assert {job.state for job in asked} == {"done"} and len(asked) >= 2
        assert {tuple(job.payload["outputs"]) for job in asked} == {("logits",)}
        sent = arrays.read(lab.folder / "artifacts" / asked[0].payload["inputs"]["sha256"])
        assert {name: (one.dtype.str, one.shape) for name, one in sent.items()} == {
            "picture": ("|u1", (60, 1, 12, 12)), "tokens": ("<i8", (60, 3))}
        builder = Workshop(lab.folder).builder(TWO_INPUTS)
        here = builder.evaluate(lab.folder / "artifacts" / front.baseline.sha256, "validation")
        assert front.baseline.values["accuracy"] == here.value


def test_two_threads(tmp_path: Path) -> None:
    """The campaign's runtime options, measured by ONNX Runtime in a child process."""
    content, sha256 = models.linear().SerializeToString(), "0" * 64
    model = tmp_path / "model.onnx"
    model.write_bytes(content)
    campaign = from_document({**SPEC, "devices": [
        {"profile": DEVICE, "threads": 2, "graph_level": "basic"}]})
    file = FileRef(sha256, len(content))
    request = requests_of(campaign).measure(file, [file], campaign.plan, 1)
    payload = decode(MeasurePayload, request.payload())
    assert payload.options == {"threads": 2, "graph_level": "basic", "batch": 1}
    result = measure(payload, {sha256: str(model)}, ProcessChild, time.monotonic)
    [measured] = result.measurements
    assert measured.verdict != "failed" and measured.provider == "CPUExecutionProvider"
    assert measured.sample_blocks, "timed"
