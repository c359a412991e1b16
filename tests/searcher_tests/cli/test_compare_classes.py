"""``fleetfront compare`` and ``front`` on ledgers with classes, groups and a metric of degrees."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from searcher.ledger.tables import evaluations, search_state
from searcher.results.front import Front
from searcher.results.report_html import write_report
from searcher.results.view import Reading
from searcher.statistics.score_codec import pack
from searcher.tasks.scored_split import quality_of_metric
from tests.searcher_tests.angle_error import TEXT
from tests.searcher_tests.cli.conftest import Run
from tests.searcher_tests.filled import DEVICE, Folder, N, bits


def label(folder: Folder, split: str, kind: str, names: list[str], codes: np.ndarray) -> None:
    """Labels of the split, stored with the evaluation of the baseline."""
    state = search_state.get(folder.db, "digits", DEVICE)
    assert state is not None
    for row in evaluations.of_file(folder.db, state.baseline.sha256):
        if row.split == split:
            evaluations.put_labels(folder.db, row.id, kind, names, N, *pack(codes))


@pytest.fixture
def classified(tmp_path: Path) -> Path:
    """Candidate 0 is wrong for the last samples, most of which are of class "rare"."""
    folder = Folder(tmp_path)
    folder.campaign()
    folder.trial(0, accuracy=0.9, test=0.95)
    folder.trial(1, accuracy=0.95)
    codes = (np.arange(N) >= 170).astype(np.uint8)
    label(folder, "validation", "class", ["common", "rare"], codes)
    label(folder, "validation", "group", ["day", "night"],
          (np.arange(N) >= 100).astype(np.uint8))
    label(folder, "test", "class", ["common", "rare"], codes)
    folder.close()
    return tmp_path


def test_the_class_that_lost_most_in_json(run: Run, classified: Path) -> None:
    found = json.loads(run("compare", "digits", "baseline", "0", "--dir", classified,
                           "--format", "json").out)
    assert [(c["split"], c["kind"], c["name"]) for c in found["classes"]] == [
        ("validation", "class", "rare"), ("validation", "group", "night"),
        ("test", "class", "rare")]
    rare = found["classes"][0]
    before, after = bits(0.99)[170:], bits(0.9)[170:]
    assert (rare["n"], rare["compared"]) == (30, 2)
    assert (rare["first"], rare["second"]) == (before.mean(), after.mean())
    assert rare["lost"] == pytest.approx(0.6) and rare["interval"][0] > 0.3
    assert found["quality"]["name"] == "accuracy" and found["quality_place"] == "host"


def test_the_class_that_lost_most_in_words(run: Run, classified: Path) -> None:
    out = run("compare", "digits", "baseline", "0", "--dir", classified).out
    assert ("validation: of 2 classes, rare lost most: accuracy 93.33% -> 33.33% over 30 samples, "
            "lost +60.00 points [") in out
    assert "(95 % for all 2 at once: each interval is widened by Bonferroni's correction)" in out
    assert "test: of 2 classes, rare" in out and "validation: of 2 groups, night" in out


def test_labels_of_either_side_are_used(run: Run, classified: Path) -> None:
    """Both candidates were trained without labels; those of the baseline apply to them."""
    found = json.loads(run("compare", "digits", "1", "0", "--dir", classified,
                           "--format", "json").out)
    assert [c["name"] for c in found["classes"]] == ["rare", "night"]
    assert found["classes"][0]["lost"] == pytest.approx(1 / 3)


ERRORS = np.linspace(1.0, 3.0, N)


@pytest.fixture
def degrees(tmp_path: Path) -> Path:
    """A campaign by an error in degrees: 2.0 of the baseline, 2.5 of candidate 0."""
    folder = Folder(tmp_path)
    folder.campaign()
    folder.trial(0, accuracy=0.98)
    folder.trial(1, accuracy=0.97, ratio=0.9, file_bytes=3000)
    state = search_state.get(folder.db, "digits", DEVICE)
    assert state is not None
    quality = quality_of_metric(TEXT, 2.0)
    baseline = replace(state.baseline, values={**state.baseline.values, "angle_error": 2.0},
                       intervals={**state.baseline.intervals, "angle_error": [1.9, 2.1]})
    search_state.put(folder.db, "digits", DEVICE,
                     replace(state, quality=quality, baseline=baseline), 120.0)
    folder.db.execute("""UPDATE campaigns SET spec = json_set(spec, '$.objectives', json(
        '{"quality":"best","latency_s":"minimize","file_bytes":"minimize"}'))""")
    folder.evaluation(state.baseline.sha256, "test", "host", ERRORS, TEXT)
    for number, more in ((0, 0.5), (1, 1.0)):
        row = folder.db.execute(
            "SELECT sha256, \"values\" FROM trials WHERE number = ?", [number]).fetchone()
        folder.evaluation(row[0], "test", "host", ERRORS + more, TEXT)
        folder.evaluation(row[0], "validation", "host", ERRORS + more, TEXT)
        values = {**json.loads(row[1]), "angle_error": 2.0 + more, "quality_drop": more}
        folder.db.execute("UPDATE trials SET \"values\" = ?, constraints = '{}' WHERE number = ?",
                          [json.dumps(values), number])
    folder.evaluation(state.baseline.sha256, "validation", "host", ERRORS, TEXT)
    folder.close()
    return tmp_path


def front_of(directory: Path) -> Front:
    return Reading(directory).front("digits")


def test_a_front_by_an_error(degrees: Path) -> None:
    document = front_of(degrees).as_document()
    assert document["metric"] == TEXT
    assert document["objectives"][0] == {  # type: ignore[index]
        "name": "angle_error", "direction": "minimize", "unit": "degree", "role": "quality"}
    [point] = front_of(degrees).points
    assert point.candidate == "digits/0", "candidate 1 costs more and is worse"
    assert point.values["angle_error_test"] == pytest.approx(2.5)
    assert point.values["quality_test_drop"] == pytest.approx(0.5)
    low, high = point.intervals["quality_test_drop"]
    assert low <= 0.5 <= high
    reference = front_of(degrees).reference_point
    assert reference[0] == pytest.approx(2.0 + 0.05 * 2.0), "worse is larger"
    assert front_of(degrees).hypervolume == 0.0, "the error of 2.5 is beyond it"


def test_its_words(run: Run, degrees: Path) -> None:
    out = run("front", "digits", "--dir", degrees).out
    assert "angle_error, smaller is better, in degree, computed on host" in " ".join(out.split())
    assert "2.5 degree" in out and "+0.5 [" in out
    out = run("compare", "digits", "baseline", "0", "--dir", degrees).out
    assert "angle_error" in out and "worse" in out
    assert run("front", "digits", "--dir", degrees, "--where", "quality<2").code == 0
    assert run("show", "digits/0", "--dir", degrees).code == 0


def test_its_comparison(run: Run, degrees: Path) -> None:
    found = json.loads(run("compare", "digits", "1", "0", "--dir", degrees, "--format",
                           "json").out)
    figure = found["figures"][0]
    assert (figure["name"], figure["verdict"]) == ("angle_error", "better")
    assert figure["difference"] == pytest.approx(-0.5)
    low, high = figure["interval"]
    assert low <= figure["difference"] <= high


def test_its_report(degrees: Path, tmp_path: Path) -> None:
    write_report(Reading(degrees), "digits", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "angle_error (validation; smaller is better, in degree)" in page
    assert "2.5 degree" in page


def test_values_stay_where_the_metric_is_not_installed(run: Run, degrees: Path) -> None:
    folder = Folder(degrees)
    state = search_state.get(folder.db, "digits", DEVICE)
    assert state is not None
    gone = "a_package_that_is_gone:Metric"
    search_state.put(folder.db, "digits", DEVICE,
                     replace(state, quality=replace(state.quality, metric=gone)), 130.0)
    folder.db.execute("UPDATE evaluations SET metric = ? WHERE metric = ?", [gone, TEXT])
    folder.close()
    [point] = front_of(degrees).points
    assert point.values["quality_test_drop"] == pytest.approx(0.5)
    assert "quality_test_drop" not in point.intervals and "angle_error_test" in point.intervals
    figure = json.loads(run("compare", "digits", "1", "0", "--dir", degrees, "--format",
                            "json").out)["figures"][0]
    assert (figure["interval"], figure["verdict"]) == (None, "undecided")
