"""Pass or fail, and the exit code."""

import pytest

from benchmarks.checks import against, conclude, holds


@pytest.mark.parametrize(("found", "relation", "bound", "passed"), [
    (80.0, ">=", 80, True), (79.9, ">=", 80, False), (5.0, "<", 5, False), (4.9, "<", 5, True),
    (8192, "<=", 8192, True), (None, ">=", 80, False)])
def test_a_figure_against_its_bound(found: float | None, relation: str, bound: float,
                                    passed: bool) -> None:
    assert against("x", found, relation, bound).passed is passed


def test_one_failure_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = holds("good", True, "0", "0"), holds("bad", False, "1", "0")
    assert conclude([good]) == 0
    assert conclude([good, bad]) == 1
    assert "1 of 2 passed" in capsys.readouterr().out


def test_no_check_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert conclude([]) == 1
