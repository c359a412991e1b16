"""Files that went to bound the disk come back byte by byte, from a real builder."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from searcher.client.records import Job
from searcher.ledger.read_only import open_ledger
from tests.searcher_tests.api.test_server import Server
from tests.searcher_tests.dispatch.laboratory import TARGET
from tests.system.real import environment

TASK = "tests.system.tiny_task:task"
RECIPE = [
    {"strategy": "channel_pruning", "layers": "convolutions", "keep_ratio": 0.5, "round_to": 1},
    {"strategy": "clustering", "layers": "fully_connected", "bits": 3},
    {"strategy": "finetune", "layers": "model", "learning_rate": 0.01},
    {"strategy": "int8", "layers": "model"},
]


class RealServer(Server):
    """With the builder that is shipped."""

    own_builder = False


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return tmp_path / "lab"


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    started = RealServer(folder)
    yield started
    if started.process.poll() is None:
        started.kill()


def ended(server: Server, job: Job) -> Mapping[str, Any]:
    """The result of a job that must succeed."""
    while not job.has_ended:
        job = server.client.wait_job(job.job, 20.0)
    assert (job.state, job.reason) == ("done", None), job
    return job.result or {}


def train(server: Server, recipe: list[dict[str, Any]], fidelity: str) -> str:
    return built(server, recipe, "train", {"fidelity": fidelity, "threads": 1})


def built(server: Server, recipe: list[dict[str, Any]], kind: str, how: dict[str, Any]) -> str:
    payload = {"task": TASK, "recipe": recipe, "seed": 3, **how,
               "target": {**TARGET, "number_formats": ["float32", "int8"]}}
    result = ended(server, server.client.submit_job(kind, "builder", payload))
    assert result["cached_bytes"] > 0
    return str(result["sha256"])


def dropped(folder: Path) -> set[str]:
    with open_ledger(folder / "ledger.db") as db:
        return {row["sha256"] for row in db.query(
            "SELECT sha256 FROM artifacts WHERE dropped_s IS NOT NULL")}


def test_a_served_folder_keeps_its_bound_and_gives_the_same_bytes(
        server: Server, folder: Path) -> None:
    baseline = train(server, [], "full")
    files = [train(server, RECIPE, "full"), train(server, RECIPE[1:3], "short"),
             built(server, [*RECIPE[:2], RECIPE[3]], "compress", {"repair": True}),
             built(server, RECIPE, "train", {"fidelity": "short", "threads": 1, "repair": True,
                                             "epochs": {"short": 2}})]
    contents = {sha256: server.client.artifact(sha256) for sha256 in (baseline, *files)}
    assert server.stop() == 0
    for path in (folder / "artifacts").iterdir():
        os.utime(path, (1.0, 1.0))
    kept = RealServer(folder, "--keep", "1KB")
    while not set(files) <= dropped(folder):
        kept.client.wait_job(1)
    assert kept.client.artifact(baseline) == contents[baseline], "baselines stay"
    assert kept.stop() == 0
    assert not list((folder / "builds").rglob("*.pt")), "what builders kept went as well"
    shutil.rmtree(folder / "builds", ignore_errors=True)

    again = RealServer(folder)
    for sha256, reused in zip(files, [0, 0, 0, 2], strict=True):  # repaired, then trained from it
        result = ended(again, again.client.rebuild(sha256))
        assert (result["difference"], result["reused_steps"]) == (None, reused)
        assert again.client.artifact(sha256) == contents[sha256]
    assert dropped(folder) == set()
    assert again.stop() == 0
