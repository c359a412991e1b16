"""A campaign whose candidates fail in three ways: it goes on without them."""

import itertools
import json
from dataclasses import replace

import pytest

from searcher.search.sampling import Sampling
from searcher.search.space import Space
from searcher.spec.campaign import load
from searcher.spec.objectives import Quality, resolved
from strategies.layers import layers_of
from tests.system.real import campaign_file, ended_trials, fleetfront, rows
from tests.system.tiny_task import Hostile

ACCURACY = Quality("accuracy", "accuracy", "share", "maximize", 1.0)
STRATEGIES = "channel_pruning magnitude_pruning clustering tucker svd int8"
WANTED = ["cannot be pruned", "good", "kills its process", "loss is no number"]


def kind(steps):
    """What will come of a recipe on ``Hostile``."""
    names = {(step["strategy"], step["layers"]) for step in steps}
    if "channel_pruning" in {name for name, _ in names}:
        return "cannot be pruned"
    if ("tucker", "convolutions") in names:
        return "kills its process"
    if names & {("magnitude_pruning", "convolutions"), ("magnitude_pruning", "model")}:
        return "loss is no number"
    return "good"


def first_kinds(campaign):
    """The kinds of the first four recipes that the campaign will ask for."""
    space = Space.of(campaign, layers_of(Hostile()), frozenset({"float32", "int8"}))
    sampling = Sampling(
        replace(campaign, objectives=resolved(campaign.objectives, ACCURACY)), space)
    return sorted(kind(sampling.ask().recipe.as_list()) for _ in WANTED)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Folder and output of a campaign of four candidates, one of each kind."""
    folder = tmp_path_factory.mktemp("hostile")
    for seed in itertools.count():
        file = campaign_file(folder, "hostile", len(WANTED), STRATEGIES, seed)
        if first_kinds(load(file)) == WANTED:
            break
    done = fleetfront("run", file, "--dir", folder / "data")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "data"


@pytest.fixture(scope="module")
def ended(hostile):
    steps = {row["hash"]: row["steps"] for row in rows(hostile, "SELECT * FROM recipes")}
    return {kind(json.loads(steps[row["recipe"]])): row for row in ended_trials(hostile)}


@pytest.mark.parametrize(("which", "reason", "words"), [
    ("cannot be pruned", "unsupported_graph", "channel"),
    ("kills its process", "quarantined", "signal 9"),
    ("loss is no number", "nan_loss", "lower learning_rate"),
])
def test_it_fails_with_a_reason(ended, which, reason, words):
    trial = ended[which]
    assert (trial["state"], trial["reason"]) == ("failed", reason), trial
    assert words in trial["message"]


def test_the_good_one_is_finished(ended):
    assert ended["good"]["state"] == "complete", ended["good"]


def test_the_killer_was_tried_three_times(hostile):
    killer = rows(hostile, "SELECT * FROM jobs WHERE reason = 'quarantined'")
    assert [(job["attempt"], job["kind"]) for job in killer] == [(3, "compress")]


def test_the_campaign_ended_well(hostile):
    assert rows(hostile, "SELECT state FROM campaigns") == [{"state": "done"}]
    assert (hostile / "tiny-hostile" / "report.html").exists()
