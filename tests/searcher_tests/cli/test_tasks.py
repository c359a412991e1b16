"""``fleetfront tasks``: the table on a terminal, as a document, and its exit code."""

import json
import sys
from pathlib import Path

import pytest

from searcher.tasks.builtin import TASKS
from tests.searcher_tests.cli.conftest import Run

MISTAKES = "tests.searcher_tests.builders.checks.user_tasks"


def test_list(run: Run) -> None:
    assert run("tasks", "list").out.split() == list(TASKS)


def test_a_sound_task_has_facts(run: Run) -> None:
    answer = run("tasks", "check", f"{MISTAKES}:sound", "--format", "json")
    document = json.loads(answer.out)
    assert answer.code == 0 and len(document["facts"]["digest"]) == 64
    assert {"model", "digest", "parity"} <= {row["field"] for row in document["rows"]}


def test_errors_end_with_exit_code_1_and_say_what_to_do(run: Run) -> None:
    answer = run("tasks", "check", f"{MISTAKES}:from_one")
    assert answer.code == 1 and "targets - 1" in answer.out
    rows = run("tasks", "check", f"{MISTAKES}:from_one", "--format", "csv").out.splitlines()
    assert rows[0] == "field,found,verdict,remedy" and any(",error," in row for row in rows)


@pytest.mark.parametrize("task", ["lenet5-mnits", "no_such_module:task", f"{MISTAKES}:raises",
                                  f"{MISTAKES}:gives_a_model", "math:pi", ":", "x"])
def test_a_task_that_cannot_be_had_is_a_users_error(run: Run, task: str) -> None:
    answer = run("tasks", "check", task, "--format", "json")
    document = json.loads(answer.out)
    assert answer.code == 1 and document["facts"] is None and answer.err == ""
    assert document["rows"][0]["verdict"] == "error"


def test_what_the_users_code_prints_is_not_in_the_document(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatty.py").write_text(
        f"from {MISTAKES} import sound\n"
        "def task():\n    print('loading 12 files')\n    return sound()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    answer = run("tasks", "check", "chatty:task", "--format", "json")
    sys.modules.pop("chatty")
    assert json.loads(answer.out)["facts"] is not None and "loading 12 files" in answer.err


def test_an_unknown_profile(run: Run) -> None:
    answer = run("tasks", "check", f"{MISTAKES}:sound", "--profile", "jetson_tx3")
    assert answer.code == 1 and "jetson_tx2" in answer.err
