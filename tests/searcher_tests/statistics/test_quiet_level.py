"""When quiet windows open, and how the quiet level is determined."""

import pytest

from searcher.dispatch.quiet_window import BuildMeter, WindowRules
from searcher.ledger.rows import QuietLevelRow
from searcher.statistics.quiet_level import BELIEVE_AFTER, learn

ROW = QuietLevelRow("d", "onnxruntime", "e" * 64, "r" * 64, {}, 100e-6, 0, None, 0.0)


@pytest.mark.parametrize(("building", "built_s", "waiting", "waited_s", "due"), [
    (False, 0.0, 1, 0.0, True),
    (True, 0.0, 1, 0.0, False),
    (True, 2.0, 1, 0.0, True),
    (True, 0.0, 4, 0.0, True),
    (True, 0.0, 1, 10.0, True),
])
def test_window_rules(building: bool, built_s: float, waiting: int, waited_s: float,
                      due: bool) -> None:
    assert WindowRules().due(building, built_s, waiting, waited_s) is due


def test_the_meter_counts_building_only() -> None:
    meter = BuildMeter()
    meter.begin(10.0)
    meter.begin(11.0)
    assert meter.built_s(12.0) == 2.0
    meter.end(12.0)
    assert meter.built_s(50.0) == 2.0
    meter.begin(50.0)
    assert meter.built_s(51.0) == 3.0
    meter.reset()
    assert meter.built_s(60.0) == 0.0


def test_the_lowest_valid_level_counts() -> None:
    assert learn(ROW, 95e-6, True, 1.0).level_s == 95e-6
    assert learn(ROW, 110e-6, True, 1.0).level_s == 100e-6


def test_a_machine_that_became_slower_is_believed_in_the_end() -> None:
    row = ROW
    for number in range(BELIEVE_AFTER):
        assert row.level_s == 100e-6
        row = learn(row, (150 - number) * 1e-6, False, float(number))
    assert row.level_s == pytest.approx((150 - BELIEVE_AFTER + 1) * 1e-6)
    assert row.busy_streak == 0


def test_a_valid_job_ends_the_streak() -> None:
    row = learn(learn(ROW, 150e-6, False, 1.0), 101e-6, True, 2.0)
    assert (row.busy_streak, row.busy_level_s) == (0, None)
    assert learn(learn(ROW, 150e-6, False, 1.0), 105e-6, False, 2.0).busy_streak == 0
