from pathlib import Path

import pytest

from searcher.errors import LedgerError, UserError
from searcher.ledger.tables.search_state import BEFORE_METRICS
from searcher.results.candidate_details import details_of
from searcher.results.filter import condition
from searcher.results.view import Reading
from searcher.statistics.intervals import paired_difference, wilson
from tests.searcher_tests.filled import LEVEL_S, TUNE, Folder, N, bits, finished, recipe


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return Reading(finished(tmp_path_factory.mktemp("data")))


def test_the_front_document(reading: Reading) -> None:
    front = reading.front("digits").as_document()
    assert list(front) == ["campaign", "device", "metric", "objectives", "baseline", "points",
                           "hypervolume", "reference_point", "quality_place",
                           "measured_with", "failures"]
    assert front["quality_place"] == "host"
    assert (front["campaign"], front["device"]) == ("digits", "local_cpu")
    assert front["metric"] == "accuracy"
    assert front["objectives"][:2] == [
        {"name": "accuracy", "direction": "maximize", "unit": "share", "role": "quality"},
        {"name": "latency_s", "direction": "minimize", "unit": "s", "role": "cost"}]
    assert [p["candidate"] for p in front["points"]] == ["digits/1", "digits/0"]
    reference = {"accuracy": 0.94, "latency_s": LEVEL_S, "file_bytes": 4000}
    assert front["reference_point"] == pytest.approx(
        [reference[o["name"]] for o in front["objectives"]])
    assert 0 < front["hypervolume"] < 1
    for point in (front["baseline"], *front["points"]):
        assert set(point) == {"candidate", "recipe", "values", "intervals", "artifact", "sha256"}
        assert Path(point["artifact"]).is_absolute() and Path(point["artifact"]).is_file()
        assert Path(point["artifact"]).name == point["sha256"]
        for name, (low, high) in point["intervals"].items():
            assert low <= point["values"][name] <= high
    assert front["points"][1]["recipe"] == recipe(0).as_list()


def test_the_hypervolume_by_hand(reading: Reading) -> None:
    front = reading.front(None, where="latency_s<0.0004")
    assert [p.candidate for p in front.points] == ["digits/1"]
    # (0.98 - 0.94) / 0.94 * (1 - 0.25) * (1 - 500 / 4000)
    assert front.hypervolume == pytest.approx(0.04 / 0.94 * 0.75 * 0.875)


def test_test_accuracy_comes_with_its_interval_and_the_paired_difference(reading: Reading) -> None:
    point = reading.front("digits").points[1]
    assert point.values["accuracy_test"] == 0.98
    assert point.intervals["accuracy_test"] == pytest.approx(wilson(196, N))
    drop, low, high = paired_difference(bits(0.985), bits(0.98))
    assert point.values["quality_test_drop"] == drop
    assert point.intervals["quality_test_drop"] == pytest.approx([low, high])
    assert "accuracy_test" not in reading.candidate("digits/2").figures.values


@pytest.mark.parametrize(("number", "state", "feasible"), [
    (0, "complete", True), (1, "complete", True), (2, "complete", True),
    (3, "pruned", False), (4, "failed", False), (5, "complete", False)])
def test_candidates(reading: Reading, number: int, state: str, feasible: bool) -> None:
    found = reading.candidate(f"digits/{number}")
    assert (found.name, found.trial.state) == (f"digits/{number}", state)
    assert found.feasible is found.point.feasible is feasible
    assert reading.candidate(str(number)).name == found.name, "the only campaign"


def test_a_graphs_measurement_puts_nothing_on_the_front(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign()
    folder.trial(0, measured=False, ratio=0.1, reason="another candidate is better")
    folder.close()
    assert Reading(tmp_path).front("digits").points == ()


def test_the_recipe_of_a_file_that_was_repaired_only_has_no_training(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign()
    folder.trial(0, repaired=True)
    folder.trial(1, ratio=0.4, accuracy=0.97)
    folder.close()
    reading = Reading(tmp_path)
    repaired, trained = reading.candidates("digits")
    assert repaired.asked == recipe(0) and repaired.recipe.steps == recipe(0).steps[:-1]
    assert recipe(0).steps[-1] == TUNE
    assert trained.asked == trained.recipe == recipe(1)
    points = {point.candidate: point.recipe for point in reading.front("digits").points}
    assert points == {"digits/0": repaired.recipe, "digits/1": trained.recipe}
    shown = details_of(reading, "digits/0").as_document()
    assert (shown["fidelity"], shown["recipe"]) == ("repaired", repaired.recipe.as_list())


@pytest.mark.parametrize(("name", "said"), [
    ("digits/9", "with a number from 0 to 5"), ("digits/x", "campaign/number"),
    ("digit/0", "Did you mean 'digits'"), ("", "campaign/number")])
def test_unknown_candidates(reading: Reading, name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        reading.candidate(name)
    assert said in str(caught.value)


def test_unknown_devices(reading: Reading) -> None:
    assert reading.front("digits", device="local_cpu").points
    with pytest.raises(UserError, match="no device 'local_gpu'. Did you mean 'local_cpu'"):
        reading.front("digits", device="local_gpu")


def test_which_campaign(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.close()
    with pytest.raises(UserError, match="Known: none"):
        Reading(tmp_path).campaign(None)
    folder = Folder(tmp_path)
    for name in ("digits", "fashion"):
        folder.campaign(name)
    folder.close()
    reading = Reading(tmp_path)
    assert [row.name for row in reading.campaigns()] == ["digits", "fashion"]
    assert reading.campaign("fashion")[1].name == "fashion"
    with pytest.raises(UserError, match="digits, fashion") as caught:
        reading.campaign(None)
    assert "None" not in str(caught.value)
    with pytest.raises(UserError, match="Did you mean 'fashion'"):
        reading.campaign("fashon")


def test_without_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        Reading(tmp_path).campaigns()


def test_without_a_baseline_there_is_no_front(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign(baseline=False, state="running")
    folder.close()
    with pytest.raises(UserError, match="no measured baseline yet"):
        Reading(tmp_path).front("digits")
    status = Reading(tmp_path).status("digits", 140.0)
    assert (status.state, status.elapsed_s, status.remaining_s) == ("running", 30.0, None)


def test_status_of_a_finished_campaign(reading: Reading) -> None:
    assert reading.status("digits", 1e9).as_document() == {
        "campaign": "digits", "state": "done", "elapsed_s": 90.0, "remaining_s": 0.0,
        "trials": {"running": 0, "complete": 4, "pruned": 1, "failed": 1},
        "priority": 0, "reason": None, "notes": [], "failures": {"nan_loss": 1}}


def test_status_of_a_running_campaign_says_what_remains(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign(state="running")
    folder.trial(0, "running")
    folder.close()
    status = Reading(tmp_path).status("digits", 150.0)
    assert status.trials["running"] == 1
    assert status.remaining_s is not None and 0 < status.remaining_s <= 90.0


# -- conditions ----------------------------------------------------------------------------------

VALUES = {"latency_s": 0.002, "file_bytes": 1000.0, "accuracy": 0.99}


@pytest.mark.parametrize(("text", "holds"), [
    (None, True), ("", True), ("latency_s<0.002", False), ("latency_s<=0.002", True),
    ("latency_s>=2e-3", True), ("file_bytes > 1e3", False),
    ("latency_s<1 and file_bytes<1e6", True), (" latency_s<1  and file_bytes<10", False),
    ("accuracy_test>0", False)])
def test_conditions(text: str | None, holds: bool) -> None:
    assert condition(text, BEFORE_METRICS)(VALUES) is holds


@pytest.mark.parametrize(("text", "said"), [
    ("latency<0.002", "unknown figure 'latency'. Did you mean 'latency_s'?"),
    ("latency_s", "'latency_s' must read like"), ("latency_s=1", "must read like"),
    ("latency_s<1 or file_bytes<2", "must read like"), ("latency_s<1 and", "must read like"),
    ("latency_s<fast", "must read like"), ("latency_s<1.2.3", "'1.2.3' is no number"),
    ("latency_s<-", "'-' is no number"), ("<1", "must read like"), ("  ", "must read like"),
    ("1<latency_s<2", "must read like"), ("__import__('os')", "must read like")])
def test_wrong_conditions(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        condition(text, BEFORE_METRICS)
    assert said in str(caught.value)


@pytest.mark.parametrize(("text", "holds"), [
    ("quality>=0.99", True), ("quality>0.99", False), ("quality_drop<=0.01", True),
    ("accuracy_drop<=0.01", True), ("accuracy_drop<0.01 and quality>0", False),
    ("quality_test>0", False), ("accuracy_test_drop<1", False)])
def test_conditions_on_the_quality(text: str, holds: bool) -> None:
    assert condition(text, BEFORE_METRICS)({**VALUES, "quality_drop": 0.01}) is holds


def test_the_front_goes_by_what_was_measured_together(tmp_path: Path) -> None:
    """0 was told 0.5 and 1 0.25; together 0 is the faster one, and 2 was not measured again."""
    folder = Folder(tmp_path)
    folder.campaign(state="running")
    folder.trial(0)
    folder.trial(1, ratio=0.25, file_bytes=500, accuracy=0.98)
    folder.trial(2, ratio=0.1, file_bytes=400, accuracy=0.98)
    folder.together({1: 0.2, 2: 0.3})
    folder.close()
    front = Reading(tmp_path).front("digits")
    assert [p.candidate for p in front.points] == ["digits/0", "digits/1"]
    faster, slower = front.points
    assert faster.values["latency_s"] == pytest.approx(0.2 * LEVEL_S)
    assert slower.intervals["latency_s"] == pytest.approx([0.297 * LEVEL_S, 0.303 * LEVEL_S])
    found = Reading(tmp_path).candidate("digits/0")
    assert found.measurement is not None and found.measurement.ratio == pytest.approx(0.2)
    assert Reading(tmp_path).candidate("digits/2").figures.values["latency_ratio"] == 0.1
