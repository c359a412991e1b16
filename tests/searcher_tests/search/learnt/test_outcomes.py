"""What trainings make of a quality drop, and what they take."""

import numpy as np
import pytest

from searcher.search.learnt.effort import RECENT, Effort
from searcher.search.learnt.outcomes import CONFIDENCE, WON_BACK, Outcomes


def test_before_any_training_part_of_a_drop_is_won_back() -> None:
    known = Outcomes()
    kept = 1 - WON_BACK["repaired"][0]
    assert known.expected("repaired", 0.04, "full").drop == pytest.approx(0.04 * kept)
    assert known.expected("repaired", -0.002, "full").drop == pytest.approx(-0.002)
    found = known.expected("repaired", 0.04, "full")
    assert known.optimistic("repaired", 0.04, "full") == pytest.approx(
        found.drop - CONFIDENCE * found.deviation)


@pytest.mark.parametrize("kept", [0.1, 0.9])
def test_the_share_that_training_wins_back_is_learnt(kept: float) -> None:
    known, draw = Outcomes(), np.random.default_rng(0)
    before = known.expected("repaired", 0.05, "full")
    for drop in draw.uniform(0, 0.1, size=30):
        known.add("repaired", drop, "full", kept * drop + draw.normal(scale=0.002))
    found = known.expected("repaired", 0.05, "full")
    assert found.drop == pytest.approx(kept * 0.05, abs=0.006)
    assert found.deviation < before.deviation
    assert known.expected("short", 0.05, "full") == Outcomes().expected("short", 0.05, "full"), (
        "another pair of fidelities is another question")


def test_the_learning_rate_matters_where_it_did() -> None:
    known, draw = Outcomes(), np.random.default_rng(0)
    for drop, rate in draw.uniform((0, -0.5), (0.05, 0.5), size=(30, 2)):
        known.add("repaired", drop, "full", 0.3 * drop + 0.03 * (rate + 0.5), rate)
    slow, fast = (known.expected("repaired", 0.01, "full", rate).drop for rate in (-0.4, 0.4))
    assert slow == pytest.approx(0.006, abs=0.004) and fast == pytest.approx(0.03, abs=0.004)


def test_trainings_that_ended_early_teach_too() -> None:
    """Short training of candidates without a loss always lost 1.5 points."""
    known = Outcomes()
    for place in range(12):
        known.add("repaired", 0.0005 * place, "short", 0.015 + 0.001 * (place % 3))
    found = known.expected("repaired", 0.002, "full")
    assert found.drop > 0.004, "most of it stays after full training"
    assert found.deviation > known.expected("short", 0.015, "full").deviation
    for _ in range(13):
        known.add("repaired", 0.002, "full", 0.0)
    assert known.expected("repaired", 0.002, "full").drop < 0.002, "more is known directly"


def test_surprises_widen_the_deviation() -> None:
    calm, wild = Outcomes(), Outcomes()
    for sign in (-1, 1) * 10:
        calm.add("repaired", 0.02, "full", 0.01 + 0.0005 * sign)
        wild.add("repaired", 0.02, "full", 0.01 + 0.02 * sign)
    assert (wild.expected("repaired", 0.02, "full").deviation
            > 3 * calm.expected("repaired", 0.02, "full").deviation)


def test_seconds_of_trainings_are_learnt() -> None:
    effort = Effort(full_s=10.0)
    assert effort.training_s("full", 1.0) > effort.training_s("full", 0.1) > 0
    for share in (0.1, 0.5, 1.0) * 4:
        effort.add_training("full", share, 20.0 + 30.0 * share)
    assert effort.training_s("full", 0.5) == pytest.approx(35.0, rel=0.1)
    assert effort.training_s("short", 0.5) < 10


def test_gain_per_second_is_that_of_recent_candidates() -> None:
    effort = Effort(full_s=10.0)
    assert effort.gain_per_second is None and effort.candidate_s is None
    for _ in range(RECENT):
        effort.add_candidate(4.0, 2.0)
    assert effort.gain_per_second == pytest.approx(2.0)
    for _ in range(RECENT):
        effort.add_candidate(0.0, 4.0)
    assert effort.gain_per_second == 0.0 and effort.candidate_s == pytest.approx(4.0)
