"""Rows, goals and fronts of the benchmark of ordinary networks."""

import tomllib
from pathlib import Path

import pytest

from benchmarks.fronts import Figures, best, volume_of
from benchmarks.model_rows import ROWS, Goal, Row
from benchmarks.models import (
    check_goals,
    check_waste,
    check_yardstick,
    judged,
    plain_front,
    table_line,
)
from benchmarks.networks import tasks
from benchmarks.networks.catalog import NETWORKS
from benchmarks.recompute_models import Quality
from searcher.spec.campaign import from_document

BASELINE = Figures("baseline", 0.90, 1_000_000, 1.0)
POINTS = [Figures("small", 0.885, 20_000, 0.5), Figures("fast", 0.899, 200_000, 0.125)]
ROW = Row("net", "net", 8, 0.02, (Goal(0.02, 30, 7), Goal(0.003, 14, 5)))


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_every_row_has_a_network_and_a_campaign(row: Row) -> None:
    assert row.network in NETWORKS
    if row.campaign_file is not None:
        campaign = from_document(tomllib.loads(Path(row.campaign_file).read_text()))
        assert campaign.budget.total_minutes == row.minutes
    else:
        assert hasattr(tasks, row.network)
        assert tomllib.loads(row.campaign(3))["seed"] == 3


def test_the_second_example_is_the_row_of_mobilenet_v2() -> None:
    example = tomllib.loads(Path("examples/mobilenet_v2.toml").read_text())
    assert example == tomllib.loads(ROWS["mobilenet_v2"].campaign(0))


def test_a_campaign_has_the_rows_time_and_constraint() -> None:
    document = tomllib.loads(ROW.campaign(0))
    campaign = from_document(document)
    assert (campaign.budget.wall_minutes, dict(campaign.constraints)) == (8, {"quality_drop": 0.02})
    assert "search" not in document
    assert tomllib.loads(ROWS["residual-untrained"].campaign(0, {"scan": False}))["search"] == {
        "train": False, "scan": False}


def test_smaller_and_faster_may_be_two_points() -> None:
    checks = check_goals(ROW, judged(POINTS, BASELINE, ROW), BASELINE, {})
    assert [(c.found, c.passed) for c in checks] == [
        ("50.0x smaller", True), ("8.00x faster", True), ("5.0x smaller", False),
        ("8.00x faster", True)]


def test_a_goal_that_no_point_meets_fails() -> None:
    checks = check_goals(ROW, judged([], BASELINE, ROW), BASELINE, {})
    assert [c.passed for c in checks] == [False] * 4
    assert table_line(ROW, "ours", judged([], BASELINE, ROW), BASELINE)[3].startswith("-, -")


def test_the_confident_samples_of_fast_points_only() -> None:
    row = Row("net", "net", 8, 0.15, (Goal(0.15, faster=4, confident=0.95),))
    found = judged(POINTS, BASELINE, row)
    tested = {"small": Quality(9, 10, confident_right=10, confident=10),
              "fast": Quality(9, 10, confident_right=9, confident=10)}
    speed, confident = check_goals(row, found, BASELINE, tested)
    assert speed.passed and not confident.passed and confident.found == "0.900"


def test_the_plain_front_is_chosen_on_validation(tmp_path: Path) -> None:
    def point(file: str, quality: float, file_bytes: int, latency_s: float) -> dict[str, object]:
        return {"file": file, "quality": quality, "file_bytes": file_bytes, "latency_s": latency_s}

    found = {"baseline": {"quality": 0.9},
             "points": [point("a.onnx", 0.89, 10, 1.0), point("beaten.onnx", 0.885, 11, 1.0),
                        point("b.onnx", 0.9, 20, 0.5), point("bad.onnx", 0.7, 1, 0.1)]}
    assert plain_front(found, tmp_path, 0.02) == {
        "plain script a": tmp_path / "a.onnx", "plain script b": tmp_path / "b.onnx"}


def test_a_plain_script_below_its_known_figures_is_no_yardstick() -> None:
    row = Row("net", "net", 8, 0.02, (), (Goal(0.02, 19.2, 6.2),))
    found = {"baseline": {"quality_test": 0.9, "file_bytes": 1000, "latency_s": 1.0},
             "points": [{"file": "a", "quality_test": 0.89, "file_bytes": 50, "latency_s": 0.2}]}
    assert [c.passed for c in check_yardstick(row, found)] == [True, False]


def test_no_training_at_all_wastes_nothing_only_where_none_is_allowed() -> None:
    assert check_waste(ROWS["residual-untrained"], None) == []
    assert [c.passed for c in check_waste(ROW, None)] == [False]
    assert [c.passed for c in check_waste(ROW, 0.2)] == [True]
    assert [c.passed for c in check_waste(ROW, 0.3)] == [False]


def test_the_loss_at_the_reference_point_is_the_rows() -> None:
    lossy = [Figures("lossy", 0.80, 10_000, 0.5)]
    assert volume_of(lossy, BASELINE)[0] == 0
    assert volume_of(lossy, BASELINE, 0.2)[0] > 0
    assert best(lossy, BASELINE.accuracy_test, lambda p: p.ratio, 0.1) == lossy[0]
