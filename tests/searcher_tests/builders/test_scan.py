"""Scans of a residual network: what each layer loses alone, what it costs, and tables from it."""

from pathlib import Path

import pytest

from searcher.builders.builder import Builder
from searcher.builders.scan import scan
from searcher.documents import plain
from searcher.errors import BuildError, ProtocolError
from searcher.jobs.registry import named
from searcher.jobs.scan import ScanRequest, ScanResult
from searcher.spec.recipe import Recipe, Step
from strategies.repair.sensitivity import table_of
from strategies.target import Target
from strategies.weights.clustering import Clustering
from tests.searcher_tests.builders.test_repaired import residual_task


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return Builder(residual_task(), 0, tmp_path_factory.mktemp("scanned"))


def scanned(builder: Builder, strategy: str, seconds: float = 600.0) -> ScanResult:
    return scan(builder.prefixes, ScanRequest("residual", strategy, seconds=seconds))


def test_bits_of_every_layer(builder: Builder) -> None:
    found = scanned(builder, "clustering")
    assert found.parameter == "bits" and found.coarser is None and found.samples == 128
    assert [one.layer for one in found.layers] == ["stem.0", "depth", "point", "hidden", "head"]
    hidden = found.layers[3]
    assert [level.strength for level in hidden.levels] == list(Clustering.levels)
    losses = [level.loss for level in hidden.levels]
    assert losses == sorted(losses, reverse=True) and losses[0] > 10 * losses[3] > 0
    costs = [level.file_bytes for level in hidden.levels]
    assert costs == sorted(costs)
    assert costs[2] == pytest.approx(300 * 24 / 2 + 16 * 4)
    assert {level.macs for level in hidden.levels} == {7200.0}


@pytest.mark.parametrize(("strategy", "layers"), [
    ("magnitude_pruning", {"stem.0", "depth", "point", "hidden", "head"}),
    ("svd", {"hidden"}), ("tucker", {"stem.0", "point"})])
def test_any_strategy_by_layer(builder: Builder, strategy: str, layers: set[str]) -> None:
    found = scanned(builder, strategy)
    assert {one.layer for one in found.layers} == layers and not found.left
    for one in found.layers:
        costs = [level.file_bytes for level in one.levels]
        assert one.levels[0].loss >= one.levels[-1].loss == 0
        assert costs == sorted(costs) and 0 < costs[0] < costs[-1]


def test_channels_that_go_together_are_scanned_once(builder: Builder) -> None:
    found = scanned(builder, "channel_pruning")
    assert {one.layer for one in found.layers} == {"stem.0", "hidden"}
    assert found.left == {"depth": "its channels go with those of stem.0",
                          "point": "its channels go with those of stem.0"}
    stem = found.layers[0].levels
    assert stem[0].macs == pytest.approx(stem[-1].macs / 3, rel=0.01), "4 of 12 channels"
    assert stem[0].loss > stem[3].loss > 0


def test_a_table_has_the_cost_of_its_mean(builder: Builder) -> None:
    found = scanned(builder, "clustering")
    costs = found.costs["file_bytes"]
    table = {name: int(bits) for name, bits in table_of(found.losses, costs, 3.0).items()}
    assert set(table) == set(costs) and len(set(table.values())) > 1
    assert sum(costs[name][bits] for name, bits in table.items()) <= sum(
        known[3] for known in costs.values())
    recipe = Recipe((Step.of("clustering", "model", {"bits": table}),))
    build = builder.compress(recipe, Target(), repair=True)
    assert build.evaluation is not None and build.evaluation.value > 0.6


def test_a_scan_without_time_is_coarser_and_is_done_again_with_more(tmp_path: Path) -> None:
    builder = Builder(residual_task(), 0, tmp_path)
    coarse = scanned(builder, "clustering", seconds=0)
    assert coarse.samples == 16 and coarse.layers
    assert coarse.coarser is not None and "16 samples instead of 128" in coarse.coarser
    assert scanned(builder, "clustering", seconds=0) == coarse
    nothing = scanned(builder, "tucker", seconds=0)
    assert (nothing.layers, nothing.coarser) == ((), "no time to repair each layer")
    assert scanned(builder, "tucker", seconds=0) == nothing
    fine = scanned(builder, "tucker")
    assert fine.coarser is None
    assert scanned(Builder(residual_task(), 0, tmp_path), "tucker", seconds=0) == fine


@pytest.mark.parametrize(("strategy", "reason"), [
    ("finetune", "bad_parameters"), ("int8", "bad_parameters"), ("nothing", "unknown_strategy")])
def test_what_cannot_be_scanned(builder: Builder, strategy: str, reason: str) -> None:
    with pytest.raises(BuildError) as caught:
        scanned(builder, strategy)
    assert caught.value.reason == reason


def test_request_and_result_survive_json(builder: Builder) -> None:
    request = ScanRequest("residual", "svd", 3, seconds=12.5)
    assert named("scan").parse(request.payload()) == request
    found = scanned(builder, "svd")
    assert request.result(plain(found)) == found
    with pytest.raises(ProtocolError, match=r"seconds = -1\.0"):
        named("scan").parse({**request.payload(), "seconds": -1.0})
