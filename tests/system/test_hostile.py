"""Campaigns with candidates that fail in three ways, repaired and not: they go on without them."""

import itertools
import json
from dataclasses import replace

import pytest

from searcher.search.recipes.applicable import model_layers, trial_of
from searcher.search.sampling import Sampling
from searcher.search.space import Space
from searcher.spec.campaign import load
from searcher.spec.objectives import Quality, resolved
from tests.system.real import campaign_file, ended_trials, fleetfront, rows
from tests.system.tiny_task import hostile

ACCURACY = Quality("accuracy", "accuracy", "share", "maximize", 1.0)
STRATEGIES = "magnitude_pruning clustering tucker svd int8"
WANTED = ["good", "kills its process", "loss is no number", "refuses to run"]
OPTIONS = "warm_starts = false\nscan = false"


def kind(steps):
    """What will come of a recipe on ``Hostile``."""
    names = {(step["strategy"], step["layers"]) for step in steps}
    found = {
        "kills its process": ("tucker", "convolutions") in names,
        "refuses to run": ("svd", "fully_connected") in names,
        "loss is no number": bool(names & {("magnitude_pruning", "convolutions"),
                                           ("magnitude_pruning", "model")}),
    }
    return " and ".join(name for name, holds in found.items() if holds) or "good"


def first_kinds(campaign, task):
    """The kinds of the first four recipes that the campaign will ask for."""
    space = Space.of(campaign, model_layers(task), frozenset({"float32", "int8"}), trial_of(task))
    sampling = Sampling(
        replace(campaign, objectives=resolved(campaign.objectives, ACCURACY)), space)
    return sorted(kind(sampling.ask().recipe.as_list()) for _ in WANTED)


def run(folder, options):
    """The folder of a campaign of four candidates, one of each kind."""
    task = hostile()
    for seed in itertools.count():
        file = campaign_file(folder, "hostile", len(WANTED), STRATEGIES, seed, options)
        if first_kinds(load(file), task) == WANTED:
            break
    done = fleetfront("run", file, "--dir", folder / "data")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "data"


@pytest.fixture(scope="module")
def repaired(tmp_path_factory):
    return run(tmp_path_factory.mktemp("repaired"), OPTIONS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Without repair, so that every candidate that is measured is trained."""
    return run(tmp_path_factory.mktemp("trained"), f"{OPTIONS}\nrepair = false")


@pytest.fixture(params=["repaired", "trained"])
def data(request):
    return request.getfixturevalue(request.param)


def ended(data):
    steps = {row["hash"]: row["steps"] for row in rows(data, "SELECT * FROM recipes")}
    return {kind(json.loads(steps[row["recipe"]])): row for row in ended_trials(data)}


@pytest.mark.parametrize(("which", "reason", "words"), [
    ("refuses to run", "unsupported_graph", "fc1 is no nn.Linear"),
    ("kills its process", "quarantined", "signal 9"),
])
def test_it_fails_when_it_is_built(data, which, reason, words):
    trial = ended(data)[which]
    assert (trial["state"], trial["reason"]) == ("failed", reason), trial
    assert words in trial["message"]


def test_a_loss_that_is_no_number_fails_when_it_is_trained(trained):
    trial = ended(trained)["loss is no number"]
    assert (trial["state"], trial["reason"]) == ("failed", "nan_loss"), trial
    assert "lower learning_rate" in trial["message"]


def test_a_loss_that_is_no_number_does_not_cost_the_repaired_file(repaired):
    trial = ended(repaired)["loss is no number"]
    assert trial["state"] != "failed" and "quality_drop" in json.loads(trial["values"]), trial
    files = rows(repaired, "SELECT sha256 FROM builds WHERE fidelity = 'repaired'")
    assert trial["sha256"] in {row["sha256"] for row in files}


def test_the_good_one_is_finished(data):
    assert ended(data)["good"]["state"] == "complete", ended(data)["good"]


def test_the_killer_was_tried_three_times(data):
    killer = rows(data, "SELECT * FROM jobs WHERE reason = 'quarantined'")
    assert [(job["attempt"], job["kind"]) for job in killer] == [(3, "compress")]


def test_the_campaign_ended_well(data):
    assert rows(data, "SELECT state FROM campaigns") == [{"state": "done"}]
    assert (data / "tiny-hostile" / "report.html").exists()
