"""Job kind ``inspect``: an upload runs only after a builder has inspected it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from searcher.errors import ProtocolError
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import builds
from tests.searcher_tests.dispatch.laboratory import (
    Laboratory,
    build_payload,
    envelope,
    measure_payload,
)

ACCEPTED: dict[str, Any] = {
    "accepted": True, "inputs": [{"name": "x", "format": "float32", "shape": [None, 4]}],
    "outputs": [{"name": "y", "format": "float32", "shape": []}], "opset": 13, "ir_version": 8,
    "domains": {"ai.onnx": 13, "acme": 1}, "custom_domains": ["acme"], "parameters": 12,
    "macs": None, "number_formats": ["float32"], "notes": ["Multiply-accumulates are not known"],
}
REFUSED = {"accepted": False, "reason": "external_data", "message": "It lies in another file."}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    opened = Laboratory.open(tmp_path)
    opened.device()
    yield opened
    opened.store.close()


def uploaded(lab: Laboratory, content: bytes = b"a model") -> dict[str, Any]:
    file = lab.artifact(content)
    with lab.store.atomic() as db:
        builds.put_upload(db, file["sha256"], len(content), lab.clock())
    return file


def measure(lab: Laboratory, *files: dict[str, Any]) -> JobRow:
    return lab.coordinator.submit("measure", "device:local_cpu", measure_payload(files[0], *files))


def inspected(lab: Laboratory, file: dict[str, Any], found: Any) -> JobRow:
    builder = lab.builder()
    job = lab.coordinator.submit("inspect", "builder", {"sha256": file["sha256"]})
    leased = lab.leased(builder)
    assert (leased.id, leased.kind) == (job.id, "inspect")
    lab.put(builder, leased, envelope({"inspection": found}))
    return lab.coordinator.submit("inspect", "builder", {"sha256": file["sha256"]})


def test_an_upload_must_be_inspected_first(lab: Laboratory) -> None:
    file = uploaded(lab)
    with pytest.raises(ProtocolError, match="\"inspect\".*`fleetfront measure`") as caught:
        measure(lab, lab.artifact(b"a builder's"), file)
    assert caught.value.status == 409 and file["sha256"] in str(caught.value)
    job = inspected(lab, file, ACCEPTED)
    assert (job.state, job.result) == ("done", {"inspection": ACCEPTED})
    row = builds.artifact(lab.store.db, file["sha256"])
    assert row is not None and row.inspection == ACCEPTED
    assert measure(lab, file).state == "queued"


def test_an_evaluation_needs_an_inspection(lab: Laboratory) -> None:
    file = uploaded(lab)
    with pytest.raises(ProtocolError, match="has not been inspected"):
        lab.coordinator.submit("evaluate", "builder", {
            "task": "t", "sha256": file["sha256"], "split": "test"})


def test_a_refused_upload_does_not_run_and_the_error_has_the_reason(lab: Laboratory) -> None:
    file = uploaded(lab)
    assert inspected(lab, file, {**REFUSED, "more": 1}).result == {"inspection": REFUSED}
    with pytest.raises(ProtocolError, match="external_data.*another file") as caught:
        measure(lab, file)
    assert caught.value.status == 400


def test_files_of_builders_need_no_inspection(lab: Laboratory) -> None:
    builder = lab.builder()
    file = uploaded(lab, json.dumps(build_payload(), sort_keys=True).encode())
    with pytest.raises(ProtocolError):
        measure(lab, file)
    job = lab.compress()
    lab.done(builder, lab.leased(builder))
    built = lab.coordinator.submit("compress", "builder", job.payload).result
    assert built is not None and built["sha256"] == file["sha256"], "the same bytes"
    assert measure(lab, file).state == "queued"


def test_a_missing_file_cannot_be_inspected(lab: Laboratory) -> None:
    with pytest.raises(ProtocolError, match="no artifact") as caught:
        lab.coordinator.submit("inspect", "builder", {"sha256": "0" * 64})
    assert caught.value.status == 404


@pytest.mark.parametrize("payload", [{}, {"sha256": "../x"}, {"sha256": 7}, {"sha256": None}])
def test_invalid_requests(lab: Laboratory, payload: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="hexadecimal"):
        lab.coordinator.submit("inspect", "builder", payload)


def test_inspections_run_only_on_builders(lab: Laboratory) -> None:
    with pytest.raises(ProtocolError, match="does not run in pool"):
        lab.coordinator.submit("inspect", "device:local_cpu", {
            "sha256": hashlib.sha256(b"").hexdigest()})


@pytest.mark.parametrize("found", [
    None, [], {}, {"accepted": False}, {**REFUSED, "reason": ""}, {**REFUSED, "message": 7},
    *({**ACCEPTED, **wrong} for wrong in (
        {"inputs": None}, {"inputs": [{}]}, {"inputs": [ACCEPTED["inputs"][0]] * 257},
        {"inputs": [{"name": "x", "format": "f", "shape": [1.5]}]},
        {"inputs": [{"name": "x", "format": "f", "shape": [1] * 33}]},
        {"opset": "13"}, {"ir_version": -1}, {"parameters": 2**60}, {"macs": True},
        {"domains": []}, {"domains": {"x": "y"}}, {"domains": {str(n): 1 for n in range(65)}},
        {"notes": "text"}, {"custom_domains": [1]}, {"number_formats": [""]})),
])
def test_malformed_results_do_not_count_as_an_inspection(lab: Laboratory, found: Any) -> None:
    file = uploaded(lab)
    job = inspected(lab, file, found)
    assert (job.state, job.reason) == ("failed", "malformed_result")
    with pytest.raises(ProtocolError, match="has not been inspected"):
        measure(lab, file)
