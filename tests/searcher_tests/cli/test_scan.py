"""``fleetfront show``: the numbers of each layer, and the scans of a campaign."""

import csv
import io
import json
from pathlib import Path

import pytest

from searcher.documents import parse
from searcher.spec.recipe import Recipe, Step
from searcher.spec.scan_result import ScanResult
from tests.searcher_tests.cli.conftest import Run
from tests.searcher_tests.filled import Folder
from tests.searcher_tests.results.test_scans import CLUSTERING, PRUNING

TABLE = {"a.fc": 3, "conv1": 2, "head": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    folder = Folder(directory)
    folder.campaign()
    folder.scans(PRUNING, CLUSTERING)
    folder.trial(0, made=Recipe((Step.of("clustering", "model", {"bits": TABLE}),)))
    folder.campaign("unscanned")
    folder.close()
    return directory


def lines(text: str) -> list[list[str]]:
    """The words of each line, without the lines of tables."""
    return [line.replace("│", " ").replace("┃", " ").split() for line in text.splitlines()]


def test_a_step_with_a_number_for_each_layer(run: Run, data: Path) -> None:
    text = run("show", "digits/0", "--dir", data).out
    assert "clustering[model](bits=2..4 in 3 layers)" in text
    assert "step 1, clustering: bits of each layer" in text
    found = lines(text)
    for row in (["conv1", "2", "0.012"], ["a.fc", "3", "0"], ["head", "4"]):
        assert row in found, text
    assert found.index(["conv1", "2", "0.012"]) < found.index(["a.fc", "3", "0"]), "scan's order"
    shown = json.loads(run("show", "digits/0", "--dir", data, "--format", "json").out)
    assert shown["recipe"][0]["bits"] == TABLE
    assert [(one["step"], one["layer"], one["strength"], one["loss"])
            for one in shown["strengths"]] == [
        (1, "conv1", 2, 0.01234), (1, "a.fc", 3, 0.0), (1, "head", 4, None)]


def test_the_front_is_short(run: Run, data: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(
        run("front", "digits", "--dir", data, "--format", "csv").out)))
    assert rows[1]["recipe"] == "clustering[model](bits=2..4 in 3 layers)"


def test_the_scans_of_a_campaign(run: Run, data: Path) -> None:
    answer = run("show", "digits", "--scan", "--dir", data)
    assert (answer.code, answer.err) == (0, "")
    assert "digits on local_cpu, clustering: loss by bits, 2 layers, 128 samples" in answer.out
    assert ["conv1", "54", "0.012", "1e-05"] in lines(answer.out)
    assert "left out: conv2, conv3 (its channels go with those of conv1)" in answer.out


def test_scans_as_json_and_csv(run: Run, data: Path) -> None:
    answer = run("show", "digits", "--scan", "--dir", data, "--format", "json")
    assert [parse(ScanResult, one) for one in json.loads(answer.out)["local_cpu"]] == [
        PRUNING, CLUSTERING]
    rows = list(csv.DictReader(io.StringIO(
        run("show", "digits", "--scan", "--dir", data, "--format", "csv").out)))
    assert len(rows) == 6 and rows[-1] == {
        "device": "local_cpu", "strategy": "clustering", "parameter": "bits", "layer": "a.fc",
        "weights": "4096", "strength": "3.0", "loss": "0.0", "file_bytes": "1536.0",
        "macs": "10.0"}


def test_a_campaign_without_scans(run: Run, data: Path) -> None:
    answer = run("show", "unscanned", "--scan", "--dir", data)
    assert answer.code == 0 and "unscanned has no scans" in answer.out


def test_scans_of_no_campaign(run: Run, data: Path) -> None:
    answer = run("show", "digits/0", "--scan", "--dir", data)
    assert answer.code == 1 and "No campaign 'digits/0'" in answer.err and "digits" in answer.err
