"""The check before ``submit``: by a builder of the daemon, or said to be left out."""

from typing import Any

import pytest

from profiles.schema import profile
from searcher.client.records import Device, Job
from searcher.devices.target import target_of
from searcher.documents import plain
from searcher.errors import UserError
from searcher.jobs.check_task import CheckRow, TaskCheck
from searcher.local.submission import check_task
from searcher.spec.campaign import from_document
from tests.searcher_tests.jobs.test_check_task import CHECK

CAMPAIGN = from_document({"name": "digits", "task": "own:task", "seed": 5,
                          "devices": [{"name": "tx2"}]})


class Daemon:
    """Answers the check with ``job``."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.payload: Any = None
        self.options: Any = None

    def devices(self) -> list[Device]:
        return [Device("tx2", "jetson_tx2", {}, {}, 0, "active", 0.0, None, 0, None)]

    def submit_job(self, kind: str, pool: str, payload: Any, **options: Any) -> Job:
        self.payload, self.options = payload, options
        return self.job


def said(job: Job) -> tuple[list[str], Daemon]:
    lines: list[str] = []
    daemon: Any = Daemon(job)
    check_task(daemon, CAMPAIGN, 2, lines.append, queue_s=4.0)
    return lines, daemon


def test_a_sound_task_is_checked_for_the_device_of_the_campaign() -> None:
    lines, daemon = said(Job(1, "done", result=plain(CHECK)))
    assert lines[0].startswith("warning: inputs") and lines[1].startswith("task: own:task")
    assert (daemon.payload["task"], daemon.payload["seed"]) == ("own:task", 5)
    assert daemon.payload["target"] == target_of(profile("jetson_tx2")).as_dict()
    assert daemon.options["queue_s"] == 4.0


def test_a_task_with_errors_is_not_submitted() -> None:
    found = TaskCheck((CheckRow("overlap", "3 samples.", "error", "Split."),))
    with pytest.raises(UserError, match="overlap: 3 samples. Split."):
        said(Job(1, "done", result=plain(found)))


def test_without_a_builder_the_campaign_is_submitted_unchecked() -> None:
    lines, _ = said(Job(1, "failed", reason="queue_timeout", message="no builder was free"))
    assert lines == ["warning: the task was not checked (no builder was free). The search checks "
                     "it when it begins."]


def test_an_unknown_device_is_left_to_the_daemon_to_refuse() -> None:
    daemon: Any = Daemon(Job(1, "done", result=plain(CHECK)))
    unknown = from_document({"name": "digits", "task": "own:task", "devices": [{"name": "tx3"}]})
    check_task(daemon, unknown, 2, pytest.fail)
    assert daemon.payload is None


def test_what_the_user_must_correct_first_is_an_error() -> None:
    with pytest.raises(UserError, match="no such file"):
        said(Job(1, "failed", reason="user", message="no such file"))
