"""Losses by layer and strength, and the numbers that recipes took from them."""

from dataclasses import replace
from pathlib import Path

import pytest

from searcher.errors import UserError
from searcher.ledger.tables import jobs, search_state
from searcher.results.scans import (
    LayerStrength,
    layer_strengths,
    level_rows,
    loss_table,
    scans_of,
)
from searcher.results.view import Reading
from searcher.spec.recipe import Recipe, Step
from searcher.spec.scan_result import LayerScan, ScanLevel, ScanResult
from tests.searcher_tests.filled import DEVICE, Folder


def layer(name: str, weights: int, losses: dict[float, float]) -> LayerScan:
    return LayerScan(name, weights, tuple(
        ScanLevel(bits, loss, weights * bits / 8, 10) for bits, loss in losses.items()))


CLUSTERING = ScanResult(
    "clustering", "bits",
    (layer("conv1", 54, {2: 0.01234, 4: 1e-5}), layer("a.fc", 4096, {2: 0.5, 3: 0.0})), 128)
PRUNING = ScanResult(
    "channel_pruning", "keep_ratio", (layer("conv1", 54, {0.125: 0.25, 1.0: 0.0}),), 16,
    "16 samples instead of 128",
    {"conv2": "its channels go with those of conv1", "fc2": "it has the outputs of the model",
     "conv3": "its channels go with those of conv1"})


def test_a_campaign_has_the_scans_of_its_search(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign()
    assert Reading(tmp_path).scans("digits") == {"local_cpu": ()}
    folder.scans(PRUNING, CLUSTERING)
    folder.campaign("other", baseline=False)
    folder.close()
    reading = Reading(tmp_path)
    assert reading.scans("digits") == {"local_cpu": (PRUNING, CLUSTERING)}
    assert reading.scans("other") == {}, "its search has no state yet"
    with pytest.raises(UserError, match="No campaign 'digit'"):
        reading.scans("digit")


def test_a_scan_that_is_not_done_is_missing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign()
    folder.scans(PRUNING, CLUSTERING)
    folder.db.execute("UPDATE jobs SET state = 'queued', result = NULL "
                      "WHERE payload LIKE '%clustering%'")
    folder.close()
    assert Reading(tmp_path).scans(None) == {"local_cpu": (PRUNING,)}


@pytest.mark.parametrize("job", [1, 999, -1, 2**80], ids=["measure", "none", "negative", "huge"])
def test_a_job_that_is_no_scan_is_none(tmp_path: Path, job: int) -> None:
    """Clients store the state of a search."""
    folder = Folder(tmp_path)
    folder.campaign()
    row = jobs.get(folder.db, 1)
    assert row is not None and row.kind == "measure"
    jobs.finish(folder.db, 1, "done", 125.0, result={"strategy": "clustering"})
    state = search_state.get(folder.db, "digits", DEVICE)
    assert state is not None
    assert scans_of(folder.db, replace(state, scans={"clustering": job})) == ()
    folder.close()


def test_the_numbers_of_a_recipe_with_what_the_layers_lose() -> None:
    recipe = Recipe((
        Step.of("channel_pruning", "model", {"keep_ratio": 0.5}),
        Step.of("clustering", "model", {"bits": {"a.fc": 3, "b": 2, "conv1": 3}})))
    assert layer_strengths(recipe, (PRUNING, CLUSTERING)) == (
        LayerStrength(2, "clustering", "bits", "conv1", 3, None),
        LayerStrength(2, "clustering", "bits", "a.fc", 3, 0.0),
        LayerStrength(2, "clustering", "bits", "b", 2, None))
    assert [one.loss for one in layer_strengths(recipe, (PRUNING,))] == [None] * 3


def test_losses_by_layer_and_strength() -> None:
    table = loss_table(CLUSTERING)
    assert table.title == "clustering: loss by bits, 2 layers, 128 samples"
    assert table.columns == ("layer", "weights", "2", "3", "4")
    assert table.rows == (("conv1", "54", "0.012", "", "1e-05"), ("a.fc", "4,096", "0.5", "0", ""))
    assert table.notes == ()


def test_what_is_missing_is_said_with_its_reason() -> None:
    assert "1 layer, 16 samples" in loss_table(PRUNING).title
    assert loss_table(PRUNING).columns == ("layer", "weights", "0.125", "1")
    assert loss_table(PRUNING).notes == (
        "coarser, to end in time: 16 samples instead of 128",
        "left out: conv2, conv3 (its channels go with those of conv1)",
        "left out: fc2 (it has the outputs of the model)")


def test_one_row_per_layer_and_strength() -> None:
    rows = level_rows("tx2", CLUSTERING)
    assert len(rows) == 4
    assert rows[0] == {"device": "tx2", "strategy": "clustering", "parameter": "bits",
                       "layer": "conv1", "weights": 54, "strength": 2, "loss": 0.01234,
                       "file_bytes": 13.5, "macs": 10}
