"""A third party's package, installed through entry points, in a small campaign of real processes.

The package is ``tests/toy_extension``. Nothing of it is imported here: the processes find it by the
metadata of the environment, as they find any installed distribution.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from searcher.client.http import CoordinatorClient
from searcher.local.process_tree import tree
from strategies.target import Target
from tests.system.real import FLEETFRONT, REPOSITORY, ended_trials, environment, rows

PACKAGE = Path(__file__).parent / "toy_extension"
TASK = "toy_extension.task:task"
CANDIDATES = 3
CAMPAIGN = f"""
name = "toy"
task = "{TASK}"
builders = 1
[budget]
candidates = {CANDIDATES}
wall_minutes = 3
[constraints]
quality_drop = 0.9
[measurement]
plan = {{min_blocks = 6, max_s = 0.5, block_s = 0.0005, gate = 9.0, warmup_s = 0.01}}
[[devices]]
profile = "local_cpu"
runtime = "toy_runtime"
[search]
sampler = "random"
strategies = ["toy_rounding", "svd"]
"""
ONE_OF_EACH = "states_what or a_suffix or one_score or every_builder"
"""A test of each suite: all of them run over fleetfront's own in ``tests/contract``."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the toy in it."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for part in PACKAGE.iterdir():
        (source / part.name).symlink_to(part)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index",
         "--quiet", "--target", str(folder), str(source)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def variables(site: Path) -> dict[str, str]:
    """The environment of processes that see the toy."""
    return {**environment(), "PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY)])}


def test_a_small_campaign(variables: dict[str, str], tmp_path: Path) -> None:
    """Strategy, metric, worker pool, runtime and meter: in the search, the builders, the
    coordinator and the agent."""
    file, directory = tmp_path / "toy.toml", tmp_path / "data"
    file.write_text(CAMPAIGN)
    done = subprocess.run(
        [FLEETFRONT, "run", str(file), "--dir", str(directory), "--workers", "toy_pool"],
        cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = ended_trials(directory)
    assert len(trials) == CANDIDATES and any(t["state"] == "complete" for t in trials)
    recipes = [row["steps"] for row in rows(directory, "SELECT steps FROM recipes")]
    assert any("toy_rounding" in steps for steps in recipes)
    metrics = {row["metric"] for row in rows(directory, "SELECT metric FROM evaluations")}
    assert metrics == {"toy_top2"}
    assert (directory / "logs" / "toy_pool").read_text() == "1 builders\n"
    (device,) = rows(directory, "SELECT capabilities FROM devices")
    capabilities = json.loads(device["capabilities"])
    assert set(capabilities["runtimes"]) == {"toy_runtime"}
    assert capabilities["meters"]["toy_meter"] == "ok"
    (offered,) = {row["runtime"] for row in rows(directory, "SELECT runtime FROM measurements")}
    assert offered == "toy_runtime"
    assert json.loads((directory / "toy" / "front.json").read_text())["points"]


def test_builders_know_the_toys_file_format_and_job_kind(
        variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with tree(tmp_path, 1, agent=False, workers="in_process") as grown:
        built = done_job(grown.client, "compress", {
            "task": TASK, "seed": 0, "target": Target(format="toy").as_dict(),
            "recipe": [{"strategy": "toy_rounding", "layers": "model", "levels": 3}]})
        content = (tmp_path / "artifacts" / built["sha256"]).read_bytes()
        assert content.startswith(b"TOY1") and built["report"]["parameters"] == 1338
        evaluated = done_job(grown.client, "evaluate", {
            "task": TASK, "sha256": built["sha256"], "split": "validation", "format": "toy"})
        greeted = done_job(grown.client, "toy_greeting", {"name": "toy"})
    assert evaluated["evaluation"]["metric"] == "toy_top2"
    assert greeted == {"greeting": "Hello, toy!"}


def done_job(client: CoordinatorClient, kind: str, payload: dict[str, object]) -> Any:
    """The result of one job of a builder."""
    job = client.submit_job(kind, "builder", payload)
    while not job.has_ended:
        job = client.wait_job(job.job, 10.0)
    assert job.state == "done", job.why
    return job.result


def test_the_contract_suites_run_for_it(variables: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--fleetfront-contracts",
         "toy-extension", "-k", ONE_OF_EACH], cwd=tmp_path, env=variables, capture_output=True,
        text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout and "failed" not in done.stdout
