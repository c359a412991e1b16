"""Uploads through the real command line to real processes: coordinator, builder, agent."""

import hashlib
import json
import os
from pathlib import Path

import psutil
import pytest

from searcher.client.upload import upload
from searcher.local.process_tree import await_agent, tree
from tests.searcher_tests import models
from tests.system.real import environment, fleetfront, rows
from tests.system.tiny_task import STRIPES

TASK = "tests.system.tiny_task:uploaded"
TARGET = {"opset": 13, "ir_version": 7, "number_formats": ["float32"],
          "int8_activations": "uint8"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A coordinator that serves its folder, with one builder and an agent for this machine."""
    folder = tmp_path_factory.mktemp("lab")
    previous = dict(os.environ)
    os.environ.update(environment(), FLEETFRONT_CACHE=str(folder / "cache"))
    try:
        with tree(folder / "data", builders=1, agent=True) as grown:
            await_agent(grown)
            yield grown
    finally:
        os.environ.clear()
        os.environ.update(previous)


def write(folder: Path, content: bytes) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(content)
    return file


def ended(lab, kind, payload):
    """A builder's job, at its end."""
    job = lab.client.submit_job(kind, "builder", payload)
    while not job.has_ended:
        job = lab.client.wait_job(job.job, 20.0)
    return job


def inspection_of(lab, file):
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    [row] = rows(lab.directory, f"SELECT * FROM artifacts WHERE sha256 = '{sha256}'")
    assert row["origin"] == "upload"
    return json.loads(row["inspection"])


def test_any_model_is_measured_where_a_coordinator_serves(lab, tmp_path):
    file = write(tmp_path, models.linear().SerializeToString())
    done = fleetfront("measure", file, "--dir", lab.directory, "--plan", "quick", "--format",
                      "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"] in ("valid", "invalid") and document["values"]["load_s"] > 0
    assert "uploading: 100 %" in done.stderr and "measured on local_cpu" in done.stderr
    assert inspection_of(lab, file)["macs"] == 12


@pytest.mark.parametrize(("content", "reason"), [
    (models.EXTERNAL["subgraph"]().SerializeToString(), "external_data"),
    (b"this is no model", "not_onnx"), (models.grows(10**11).SerializeToString(), "memory"),
], ids=["external", "garbage", "bomb"])
def test_hostile_models_cost_their_inspection_only(lab, tmp_path, content, reason):
    file = write(tmp_path, content)
    done = fleetfront("measure", file, "--dir", lab.directory)
    assert done.returncode == 1 and f"refused ({reason})" in done.stderr, done.stderr
    assert inspection_of(lab, file)["reason"] == reason
    lab.check()
    [struck] = rows(lab.directory, "SELECT count(*) AS n FROM jobs WHERE strikes > 0")
    assert struck["n"] == 0, "no builder died of it"


def test_the_coordinator_never_opens_a_model(lab, tmp_path):
    """Neither onnx nor onnxruntime is mapped into its memory; into the builder's, they are."""
    sha256 = upload(lab.client, write(tmp_path, models.with_shape([1, 4]).SerializeToString()))
    assert ended(lab, "inspect", {"sha256": sha256}).result["inspection"]["accepted"]
    coordinator = psutil.Process(lab.children["coordinator"].pid)
    [builder] = [child for child in coordinator.children()
                 if "searcher.builders.process" in child.cmdline()]

    def libraries(process):
        return {part.path for part in process.memory_maps() if "onnx" in part.path.lower()}

    assert libraries(builder) and not libraries(coordinator)


def test_a_data_set_without_a_network(lab, tmp_path):
    build = {"task": TASK, "recipe": [], "target": TARGET}
    missing = ended(lab, "compress", {**build, "seed": 0})
    assert missing.state == "failed"
    assert "fleetfront upload FILE" in missing.message
    assert hashlib.sha256(STRIPES).hexdigest() in missing.message
    file = tmp_path / "stripes.npz"
    file.write_bytes(STRIPES)
    sent = fleetfront("upload", file, "--dir", lab.directory)
    assert sent.stdout.strip() == hashlib.sha256(STRIPES).hexdigest(), sent.stderr
    found = ended(lab, "compress", {**build, "seed": 1})
    assert found.state == "done", found
    assert not list((lab.directory.parent / "cache").iterdir()), "nothing was fetched or copied"


def test_an_upload_is_inspected_by_a_command_of_its_own_too(tmp_path):
    """The coordinator that took the upload is gone when the file is measured."""
    file = write(tmp_path, models.EXTERNAL["initializer"]().SerializeToString())
    with tree(tmp_path / "data", builders=0, agent=False) as grown:
        upload(grown.client, file)
    done = fleetfront("measure", file, "--dir", tmp_path / "data", "--plan", "quick")
    assert done.returncode == 1 and "refused (external_data)" in done.stderr, done.stderr
