"""How long candidates are trained."""

import pytest

from searcher.ledger.tables.search_state import TaskFacts
from searcher.search.rungs import UNKNOWN_S, known_rungs, rungs_of

FACTS = TaskFacts("d", {}, "accuracy", {}, {"short": 2, "full": 6}, None, 1, 1, 0.1, 4.0, 1)
"""One epoch takes 4 s."""


def test_full_training_takes_a_fraction_of_the_budget() -> None:
    found = rungs_of(FACTS, False, 600.0)
    assert found.epochs == {"short": 3, "full": 12, "extended": 24}
    assert found.full_s == 48.0 and found.why_not is None


def test_at_least_one_epoch_and_not_too_many() -> None:
    assert rungs_of(FACTS, False, 60.0).epochs == {"short": 1, "full": 1, "extended": 2}
    assert rungs_of(FACTS, False, 1e6).epochs == {"short": 8, "full": 30, "extended": 60}


def test_a_network_too_slow_for_one_epoch_is_not_trained() -> None:
    for states in (False, True):
        found = rungs_of(FACTS, states, 30.0)
        assert found.epochs == {} and "one epoch takes 4 s" in (found.why_not or "")


def test_a_task_that_states_its_epochs_keeps_them() -> None:
    found = rungs_of(FACTS, True, 2400.0)
    assert found.epochs == {} and found.full_s == pytest.approx(24.0)
    assert rungs_of(None, True, 1.0).full_s == UNKNOWN_S


def test_epochs_are_stable_over_resume() -> None:
    before = rungs_of(FACTS, False, 600.0).epochs
    assert known_rungs(before, FACTS, rungs_of(FACTS, False, 1200.0)).epochs == before
    assert known_rungs({}, FACTS, rungs_of(FACTS, False, 1200.0)).epochs["full"] == 24
