"""Job kind ``infer``: stored outputs, and accuracies with the place that computed them."""

import base64
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import protocol
from searcher.artifacts import arrays
from searcher.errors import ProtocolError
from searcher.jobs.base import BUILD_DEADLINE_S
from searcher.jobs.evaluate import EvaluateRequest
from searcher.jobs.infer import DEADLINE_S, InferRequest
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.tables import builds, devices, evaluations, jobs
from tests.searcher_tests.dispatch.laboratory import (
    ENVIRONMENT,
    Laboratory,
    envelope,
    evaluation,
)

KINDS = ["measure", "infer"]
PLACE = "tx2/onnxruntime/CUDAExecutionProvider"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def device(lab: Laboratory) -> AgentRow:
    agent = lab.device("tx2", hostname="elsewhere")
    assert lab.coordinator.lease(agent, KINDS) is None
    return agent


def payload(lab: Laboratory, model: bytes = b"model") -> dict[str, Any]:
    return {"model": lab.artifact(model), "inputs": lab.artifact(b"inputs"),
            "runtime": "onnxruntime", "options": {"threads": 1}, "attempt": 1}


def submitted(lab: Laboratory, agent: AgentRow, model: bytes = b"model") -> JobRow:
    lab.coordinator.submit("infer", agent.pool, payload(lab, model))
    job = lab.coordinator.lease(agent, KINDS)
    assert job is not None and job.kind == "infer"
    return job


def answer(rows: list[list[float]], **changes: Any) -> dict[str, Any]:
    flat = [value for row in rows for value in row]
    packed = zlib.compress(struct.pack(f"<{len(flat)}f", *flat))
    return {"shape": [len(rows), len(rows[0])], "outputs": base64.b64encode(packed).decode(),
            "provider": "CUDAExecutionProvider", "environment": ENVIRONMENT, "device_s": 1.0,
            **changes}


ROWS = [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]


def ended(lab: Laboratory, job: JobRow) -> JobRow:
    found = jobs.get(lab.store.db, job.id)
    assert found is not None
    return found


def inferred(lab: Laboratory, agent: AgentRow) -> JobRow:
    job = submitted(lab, agent)
    lab.put(agent, job, envelope(answer(ROWS)))
    return ended(lab, job)


def test_outputs_are_stored_as_a_file(lab: Laboratory) -> None:
    job = inferred(lab, device(lab))
    assert job.state == "done" and job.result is not None
    assert job.result["shape"] == [4, 2] and job.result["place"] == PLACE
    content = (lab.folder / "artifacts" / job.result["outputs"]["sha256"]).read_bytes()
    assert len(content) == job.result["outputs"]["size_bytes"]
    assert np.array_equal(np.load(io.BytesIO(content)), np.array(ROWS, np.float32))
    assert builds.artifact(lab.store.db, job.result["outputs"]["sha256"]) is not None


def packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


CLASSES = np.array([1, 0, 1, 0], "<i8")
OTHER = {"name": "class", "kind": "<i8", "shape": [4], "outputs": packed(CLASSES)}


def test_several_outputs_are_stored_by_name(lab: Laboratory) -> None:
    """Equal outputs are one file: a job that is done again gives the same sha256."""
    agent, files = device(lab), []
    for model in (b"model", b"another"):
        job = submitted(lab, agent, model)
        lab.put(agent, job, envelope(answer(ROWS, name="logits", others=[OTHER])))
        files.append((ended(lab, job).result or {})["outputs"]["sha256"])
    assert files[0] == files[1]
    found = arrays.read(lab.folder / "artifacts" / files[0])
    assert list(found) == ["logits", "class"]
    assert np.array_equal(found["logits"], np.array(ROWS, np.float32))
    assert np.array_equal(found["class"], CLASSES) and found["class"].dtype == np.int64


def test_the_first_output_of_an_older_agent_is_not_taken_for_another(lab: Laboratory) -> None:
    agent = device(lab)
    lab.coordinator.submit("infer", agent.pool, {**payload(lab), "outputs": ["class"]})
    job = lab.coordinator.lease(agent, KINDS)
    assert job is not None
    lab.put(agent, job, envelope(answer(ROWS)))
    found = ended(lab, job)
    assert found.reason == "malformed_result" and "older version" in str(found.message)


def test_the_place_names_everything_that_determines_numerics(lab: Laboratory) -> None:
    """Accuracies of different options must not be confused."""
    agent, places = device(lab), []
    for options in ({}, {"graph_level": "all", "threads": 2}, {"graph_level": "basic"},
                    {"precision": "float16", "batch": 100}):
        lab.coordinator.submit("infer", agent.pool, {**payload(lab), "options": options})
        job = lab.coordinator.lease(agent, KINDS)
        assert job is not None
        lab.put(agent, job, envelope(answer(ROWS)))
        places.append((ended(lab, job).result or {})["place"])
    assert places == [PLACE, PLACE, f"{PLACE}/level basic", f"{PLACE}/float16"]


@pytest.mark.parametrize("changes", [
    {"shape": [4]}, {"shape": [4, 3]}, {"shape": [4, 0]}, {"shape": [-4, -2]}, {"shape": []},
    {"outputs": "!"}, {"outputs": ""}, {"provider": ""}, {"shape": [2**40, 2**40]},
    {"outputs": base64.b64encode(zlib.compress(bytes(17 << 20))).decode()},
    {"outputs": base64.b64encode(zlib.compress(struct.pack("<8f", *[float("nan")] * 8))).decode()},
    {"kind": "|O"}, {"kind": "<i8"}, {"name": "x" * 300},
    {"name": "class", "others": [OTHER]}, {"others": [{**OTHER, "shape": [2, 2]}]},
    {"others": [{**OTHER, "name": str(i)} for i in range(70)]},
    {"others": [{**OTHER, "kind": "|u1", "shape": [4, 4 << 20],
                 "outputs": packed(np.zeros(16 << 20, "|u1"))}]},
])
def test_invalid_outputs_fail_the_job_and_store_nothing(
        lab: Laboratory, changes: dict[str, Any]) -> None:
    agent = device(lab)
    job = submitted(lab, agent)
    there = set((lab.folder / "artifacts").iterdir())
    lab.put(agent, job, envelope(answer(ROWS, **changes)))
    assert ended(lab, job).reason == "malformed_result"
    assert set((lab.folder / "artifacts").iterdir()) == there


def evaluate(lab: Laboratory, job: JobRow, **changes: Any) -> dict[str, Any]:
    outputs = {"job": job.id, "sha256": (job.result or {})["outputs"]["sha256"]}
    return {"task": "lenet5-mnist", "sha256": job.payload["model"]["sha256"],
            "split": "validation", "outputs": outputs, **changes}


def test_accuracies_of_device_and_host_are_stored_separately(lab: Laboratory) -> None:
    job, builder = inferred(lab, device(lab)), lab.builder()
    request = evaluate(lab, job)
    for asked, value in ((request, 0.75), ({k: v for k, v in request.items() if k != "outputs"},
                                           0.5)):
        lab.coordinator.submit("evaluate", "builder", asked)
        leased = lab.leased(builder)
        lab.put(builder, leased, envelope({"evaluation": evaluation(value)}))
    found = {row.place: row.value for row in evaluations.of_file(lab.store.db, request["sha256"])}
    assert found == {PLACE: 0.75, evaluations.HOST: 0.5}


@pytest.mark.parametrize("lie", ["another file", "another job", "other outputs"])
def test_outputs_of_another_file_or_job_give_no_accuracy(lab: Laboratory, lie: str) -> None:
    job, builder = inferred(lab, device(lab)), lab.builder()
    request = evaluate(lab, job)
    if lie == "another file":
        request["sha256"] = lab.artifact(b"another")["sha256"]
    elif lie == "another job":
        request["outputs"]["job"] = 999
    else:
        request["outputs"]["sha256"] = lab.artifact(b"made up")["sha256"]
    lab.coordinator.submit("evaluate", "builder", request)
    leased = lab.leased(builder)
    lab.put(builder, leased, envelope({"evaluation": evaluation(1.0)}))
    assert ended(lab, leased).reason == "malformed_result"
    assert evaluations.of_file(lab.store.db, request["sha256"]) == []


# -- admission ------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [
    {"model": {"sha256": "../../etc/passwd", "size_bytes": 1}},
    {"inputs": {"sha256": "A" * 64, "size_bytes": 1}},
    {"inputs": {"sha256": "a" * 64, "size_bytes": 0}},
    {"outputs": [""]}, {"outputs": ["x" * 300]}, {"outputs": ["x"] * 70},
    {"inputs": None}, {"runtime": ""}, {"attempt": -1}, {"options": []},
])
def test_invalid_requests_are_refused(lab: Laboratory, change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        lab.coordinator.submit("infer", "device:tx2", {**payload(lab), **change})
    assert caught.value.status == 400


def test_both_files_must_be_stored(lab: Laboratory) -> None:
    asked = payload(lab)
    asked["inputs"] = {"sha256": "d" * 64, "size_bytes": 5}
    with pytest.raises(ProtocolError) as caught:
        lab.coordinator.submit("infer", "device:tx2", asked)
    assert caught.value.status == 404


def test_an_uploaded_model_must_be_inspected_but_data_need_not(lab: Laboratory) -> None:
    asked = payload(lab)
    with lab.store.atomic() as db:
        builds.put_upload(db, asked["inputs"]["sha256"], 6, 0.0)
    assert lab.coordinator.submit("infer", "device:tx2", asked).state == "queued"
    with lab.store.atomic() as db:
        builds.put_upload(db, lab.artifact(b"uploaded")["sha256"], 8, 0.0)
    with pytest.raises(ProtocolError, match="has not been inspected") as caught:
        lab.coordinator.submit("infer", "device:tx2", payload(lab, b"uploaded"))
    assert caught.value.status == 409


def test_an_agent_without_the_kind_is_refused(lab: Laboratory) -> None:
    agent = lab.device("tx2", hostname="elsewhere")
    with pytest.raises(ProtocolError, match=r"agent of device 'tx2' cannot.*'infer'.*agent\.pyz"
                       ) as caught:
        lab.coordinator.submit("infer", agent.pool, payload(lab))
    assert caught.value.status == 409


def test_the_next_request_of_an_updated_agent_reports_its_kinds(lab: Laboratory) -> None:
    agent = lab.device("tx2", hostname="elsewhere")
    lab.coordinator.lease(agent)
    lab.coordinator.lease(agent, ["measure", "infer", "of a newer program"])
    row = devices.device(lab.store.db, "tx2")
    assert row is not None and row.capabilities["kinds"] == KINDS
    assert lab.coordinator.submit("infer", agent.pool, payload(lab)).state == "queued"
    lab.coordinator.lease(lab.device("tx2", hostname="elsewhere"), ["measure"])
    with pytest.raises(ProtocolError, match="it offers measure"):
        lab.coordinator.submit("infer", agent.pool, payload(lab, b"another"))


def test_deadline() -> None:
    file = protocol.ArtifactRef("0" * 64, 1)
    asked = InferRequest(protocol.InferPayload(file, file, "onnxruntime", {}))
    assert asked.deadline_s() == DEADLINE_S == 3600.0
    assert EvaluateRequest("t", "0" * 64, "test").deadline_s() == BUILD_DEADLINE_S
