"""Job kind ``check_task``: the table of a task, for allowed tasks only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from searcher.dispatch.admission import Admission
from searcher.documents import plain
from searcher.errors import ProtocolError, UserError
from searcher.jobs.check_task import CheckRow, CheckTask, CheckTaskRequest, TaskCheck
from searcher.ledger.tables.search_state import TaskFacts
from tests.searcher_tests.dispatch.laboratory import Laboratory, envelope

FACTS = TaskFacts(
    "d" * 64, {"weights": "a", "training": "b"}, "accuracy",
    {"training": 100, "validation": 50, "test": 50}, {"short": 1, "full": 4}, (4, 8), 1000, 4200,
    0.01, 0.5, 40_000)
CHECK = TaskCheck((CheckRow("model", "Net, 1,000 parameters"),
                   CheckRow("inputs", "up to 255", "warning", "Scale them.")), FACTS)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    opened = Laboratory.open(tmp_path)
    yield opened
    opened.store.close()


def result_of(lab: Laboratory, document: Any) -> Any:
    """The job of a check to which a builder answers ``document``."""
    builder = lab.builder()
    payload = CheckTaskRequest("lenet5-mnist", attempt=3).payload()
    lab.coordinator.submit("check_task", "builder", payload)
    lab.put(builder, lab.leased(builder), envelope(document))
    return lab.coordinator.submit("check_task", "builder", payload)


def test_a_search_reads_what_a_builder_found(lab: Laboratory) -> None:
    job = result_of(lab, plain(CHECK))
    found = CheckTaskRequest("lenet5-mnist", attempt=3).result(job.result)
    assert (job.state, found) == ("done", CHECK)
    assert [row.field for row in found.of("warning")] == ["inputs"]
    assert str(found.rows[1]) == "inputs: up to 255 Scale them."


def test_texts_that_sqlite_cannot_store_and_long_ones_are_cut(lab: Laboratory) -> None:
    document = plain(TaskCheck((CheckRow("task", "\ud800" + "x" * 10_000, "error"),)))
    found = CheckTaskRequest("lenet5-mnist").result(result_of(lab, document).result)
    assert found.rows[0].found.startswith("?x") and len(found.rows[0].found) == 2000
    assert found.facts is None


@pytest.mark.parametrize("document", [
    {}, {"rows": []}, {"rows": [{"field": "x"}]}, {"rows": "x"}, {"rows": [7]},
    {"rows": [{"field": "x", "found": "y", "verdict": "odd", "remedy": ""}]},
    {"rows": [{"field": "x", "found": "y"}] * 501},
    {**plain(CHECK), "facts": {"digest": "d"}}])
def test_a_malformed_table_fails_the_job(lab: Laboratory, document: Any) -> None:
    job = result_of(lab, document)
    assert (job.state, job.reason) == ("failed", "malformed_result")


@pytest.mark.parametrize(("payload", "said"), [
    ({}, "task"), ({"task": "t"}, "seed"), ({"task": "t", "seed": 0}, "target"),
    ({"task": "t", "seed": 0, "target": {"opset": "x"}}, "opset"),
    ({"task": "t", "seed": 0, "target": {}, "attempt": -1}, "attempt")])
def test_invalid_requests(payload: dict[str, Any], said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        CheckTask().parse(payload)


def test_requests_are_read_as_they_were_written() -> None:
    request = CheckTaskRequest("own.tasks:pictures", 3, attempt=7)
    assert CheckTask().parse(request.payload()) == request


def test_a_daemon_checks_allowed_tasks_only(lab: Laboratory) -> None:
    lab.coordinator.admission = Admission(frozenset({"own.tasks:pictures"}))
    for task in ("own.tasks:pictures", "lenet5-mnist"):
        lab.coordinator.submit("check_task", "builder", CheckTaskRequest(task).payload())
    with pytest.raises(UserError, match="not allowed"):
        lab.coordinator.submit("check_task", "builder", CheckTaskRequest("os:abort").payload())
