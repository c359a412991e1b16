"""A campaign without any training, in real processes."""

import json
import shutil

import pytest

from searcher.spec.fidelity import REPAIRED
from tests.system.real import campaign_file, ended_trials, environment, fleetfront, rows
from tests.system.test_rebuild import RealServer, ended

STRATEGIES = "channel_pruning clustering int8"
CANDIDATES = 4


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repaired")
    campaign = campaign_file(folder, "task", CANDIDATES, STRATEGIES, options="train = false")
    done = fleetfront("run", campaign, "--dir", folder / "data")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "data"


def front_of(directory):
    return json.loads((directory / "tiny-task" / "front.json").read_text())["points"]


def test_the_front_has_repaired_files(directory):
    points = front_of(directory)
    fidelity = {row["sha256"]: row["fidelity"] for row in rows(directory, "SELECT * FROM builds")}
    assert points and {fidelity[point["sha256"]] for point in points} == {REPAIRED}
    assert all(p["values"]["quality_drop"] < 0.5 for p in points)
    trials = ended_trials(directory)
    assert len(trials) == CANDIDATES
    assert all("quality_drop" in json.loads(trial["values"]) for trial in trials)


def test_only_the_baseline_is_trained(directory):
    trained = [json.loads(row["payload"])["recipe"] for row in rows(
        directory, "SELECT payload FROM jobs WHERE kind = 'train'")]
    assert trained == [[]]
    recipes = {row["hash"]: row["steps"] for row in rows(directory, "SELECT * FROM recipes")}
    asked = [recipes[trial["recipe"]] for trial in ended_trials(directory)]
    assert asked and not any("finetune" in steps for steps in asked)


def test_a_repaired_file_comes_back_with_the_recipe_that_is_shown(directory, tmp_path, monkeypatch):
    point = front_of(directory)[0]
    shown = json.loads(fleetfront("show", point["candidate"], "--dir", directory, "--format",
                                  "json").stdout)
    assert (shown["fidelity"], shown["recipe"]) == (REPAIRED, point["recipe"])
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    copied = shutil.copytree(directory, tmp_path / "data")
    file = copied / "artifacts" / point["sha256"]
    content = file.read_bytes()
    file.unlink()
    shutil.rmtree(copied / "builds")
    server = RealServer(copied)
    try:
        result = ended(server, server.client.rebuild(point["sha256"]))
        assert (result["sha256"], result["difference"]) == (point["sha256"], None)
        assert server.client.artifact(point["sha256"]) == content
    finally:
        server.stop()
