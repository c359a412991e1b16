"""What ``run`` and ``submit`` say before they begin, and its numbers."""

from dataclasses import replace

from searcher.jobs.check_task import TaskCheck
from searcher.local.forecast import forecast, statements
from searcher.spec.campaign import from_document
from tests.searcher_tests.jobs.test_check_task import CHECK, FACTS

CAMPAIGN = from_document({
    "name": "digits", "task": "own:task", "budget": {"candidates": 1000, "wall_minutes": 10},
    "measurement": {"plan": {"max_s": 3.0}}})


def said(**changes: object) -> str:
    check = replace(CHECK, facts=replace(FACTS, **changes))
    return "\n".join(statements(CAMPAIGN, check, 2, free_bytes=10**9))


def test_the_number_of_candidates_follows_from_their_seconds() -> None:
    """Measured for 0.3 s and, one of three, for 3 s more; trained for 4 epochs of 0.5 s by two."""
    found = forecast(CAMPAIGN, FACTS, builders=2)
    assert (found.measured_s, found.trained_s, found.search_s) == (1.3, 2.0, 600.0)
    assert found.candidates == round(600 / (1.3 + 2.0 / 2 / 3))
    slower = forecast(CAMPAIGN, replace(FACTS, epoch_s=50.0), 2)
    faster = forecast(CAMPAIGN, replace(FACTS, epoch_s=50.0), 8)
    assert slower.candidates < faster.candidates < found.candidates


def test_the_budget_limits_the_number() -> None:
    few = replace(CAMPAIGN, budget=replace(CAMPAIGN.budget, candidates=12))
    assert forecast(few, FACTS, 2).candidates == 12
    assert any("12 candidates (the limit of [budget])" in line
               for line in statements(few, CHECK, 2))


def test_a_trained_baseline_takes_its_time_of_the_total() -> None:
    total = replace(CAMPAIGN, budget=replace(CAMPAIGN.budget, total_minutes=5.0))
    assert forecast(total, FACTS, 2).search_s == 300.0 - 4 * 0.5 / 2
    assert forecast(total, replace(FACTS, baseline_epochs=None), 2).search_s == 300.0


def test_files_and_checkpoints_are_counted() -> None:
    one = forecast(replace(CAMPAIGN, budget=replace(CAMPAIGN.budget, candidates=1)), FACTS, 2)
    assert one.disk_bytes == 3 * 4200 + 7 * 4000


def test_the_statements_name_warnings_baseline_candidates_and_disk() -> None:
    text = said()
    assert "warning: inputs: up to 255 Scale them." in text
    assert "100 / 50 / 50 samples (training / validation / test), metric accuracy" in text
    assert "baseline: trained for 4 to 8 epochs, at most about 4 s" in text
    assert "2 builders" in text and "disk: about" in text
    assert "it is not trained" in said(baseline_epochs=None)
    assert "warning: only" not in text and "warning: only 1 GB" in said(file_bytes=10**9)


def test_a_check_with_errors_promises_nothing() -> None:
    assert statements(CAMPAIGN, TaskCheck(CHECK.rows[:1]), 2) == []
