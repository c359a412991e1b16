"""``fleetfront compare`` on a folder of finished trials."""

import json
from pathlib import Path

import pytest

from tests.searcher_tests.cli.conftest import Run
from tests.searcher_tests.filled import Folder, finished


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("data"))


def figures(run: Run, data: Path, first: str, second: str) -> dict[str, dict]:
    answer = run("compare", "digits", first, second, "--dir", data, "--format", "json")
    assert (answer.code, answer.err) == (0, "")
    return {figure["name"]: figure for figure in json.loads(answer.out)["figures"]}


def test_costs_and_their_verdicts(run: Run, data: Path) -> None:
    found = figures(run, data, "0", "1")
    assert found["latency_s"]["ratio"] == pytest.approx(0.5)
    assert found["latency_s"]["verdict"] == found["file_bytes"]["verdict"] == "better"
    assert found["macs"]["verdict"] == "equal"
    assert figures(run, data, "digits/1", "digits/0")["latency_s"]["verdict"] == "worse"


def test_accuracies_are_compared_over_the_same_samples(run: Run, data: Path) -> None:
    found = figures(run, data, "0", "5")
    assert found["accuracy"]["difference"] == pytest.approx(0.96 - 0.985, abs=0.006)
    low, high = found["accuracy"]["interval"]
    assert low < found["accuracy"]["difference"] < high
    assert "accuracy_test" not in found, "5 never saw the test split"
    assert figures(run, data, "0", "0")["accuracy"]["verdict"] == "undecided"


def test_a_lost_accuracy_is_worse(run: Run, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign()
    folder.trial(0, accuracy=0.98)
    folder.trial(1, accuracy=0.5)
    folder.close()
    assert figures(run, tmp_path, "0", "1")["accuracy"]["verdict"] == "worse"
    assert figures(run, tmp_path, "1", "0")["accuracy"]["verdict"] == "better"


def test_against_the_baseline(run: Run, data: Path) -> None:
    found = figures(run, data, "baseline", "1")
    assert found["latency_s"]["ratio"] == pytest.approx(0.25)
    assert set(found) >= {"accuracy", "accuracy_test", "file_bytes"}
    assert "0.25x" in run("compare", "digits", "baseline", "1", "--dir", data).out


def test_accuracies_are_those_of_the_place_of_the_front(run: Run, tmp_path: Path) -> None:
    """Device and host compute different accuracies: 0 is on the front, 1 did not run on the
    device."""
    folder = Folder(tmp_path)
    folder.campaign()
    folder.trial(0, accuracy=0.98)
    folder.trial(1, accuracy=0.975, ratio=0.9, file_bytes=3000)
    folder.on_device("tx2/trtexec/TensorrtExecutionProvider", baseline=0.94, accuracies={1: 0.93})
    folder.close()
    front = json.loads(run("front", "digits", "--dir", tmp_path, "--format", "json").out)
    assert front["quality_place"] == "tx2/trtexec/TensorrtExecutionProvider"
    point = front["points"][0]
    assert point["candidate"] == "digits/0" and point["values"]["accuracy"] == 0.93
    command = ("compare", "digits", "baseline", "0", "--dir", tmp_path, "--format", "json")
    document = json.loads(run(*command).out)
    assert document["quality_place"] == front["quality_place"]
    accuracy = document["figures"][0]
    assert (accuracy["first"], accuracy["second"]) == (
        front["baseline"]["values"]["accuracy"], point["values"]["accuracy"])
    other = json.loads(run(*command[:3], "1", *command[4:]).out)
    assert other["quality_place"] == "host" and other["figures"][0]["second"] == 0.975


def test_unknown_candidates(run: Run, data: Path) -> None:
    for name in ("99", "other/1", "x"):
        assert run("compare", "digits", "0", name, "--dir", data).code == 1
