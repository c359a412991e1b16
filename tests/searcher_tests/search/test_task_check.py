"""A search checks its task first; a resumed one compares it with the task that it began with."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from searcher.client.records import Job
from searcher.documents import plain
from searcher.errors import BuildError, UserError
from searcher.jobs.check_task import CheckRow, TaskCheck
from searcher.ledger.tables.search_state import SearchState, TaskFacts
from searcher.search.task_check import checked
from searcher.spec.campaign import from_document
from strategies.target import Target
from tests.searcher_tests.jobs.test_check_task import CHECK, FACTS

CAMPAIGN = from_document({"name": "digits", "task": "own:task"})


class Coordinator:
    """Answers a check with ``job``; ``known`` is the task in the state of the search."""

    def __init__(self, job: Job, known: TaskFacts | None = None, begun: bool = True) -> None:
        self.job, self.payloads = job, []
        state = SimpleNamespace(task=known)
        self.states = {"local_cpu": state} if begun else {}

    def campaign(self, name: str) -> Any:
        return SimpleNamespace(search_states=self.states)

    def submit_job(self, kind: str, pool: str, payload: Any, **options: Any) -> Job:
        assert (kind, pool, options["campaign"]) == ("check_task", "builder", "digits")
        self.payloads.append(payload)
        return Job(1, "queued")

    def wait_job(self, job: int, wait_s: float) -> Job:
        return self.job


def done(check: TaskCheck) -> Job:
    return Job(1, "done", result=plain(check))


def of(client: Any) -> TaskCheck:
    return checked(client, CAMPAIGN, Target())


def test_a_sound_task_and_an_unchanged_one() -> None:
    assert of(Coordinator(done(CHECK), begun=False)) == CHECK
    assert of(Coordinator(done(CHECK), FACTS)) == CHECK
    slower = replace(FACTS, step_s=9.0)
    assert of(Coordinator(done(replace(CHECK, facts=slower)), FACTS)).facts == slower


def test_a_state_of_an_earlier_version_has_no_task_to_compare() -> None:
    assert of(Coordinator(done(CHECK), None)) == CHECK
    assert SearchState.__dataclass_fields__["task"].default is None


def test_each_check_is_a_new_job() -> None:
    """The data may have changed since an equal request was answered."""
    client = Coordinator(done(CHECK))
    of(client)
    of(client)
    assert client.payloads[0]["attempt"] != client.payloads[1]["attempt"]


def test_the_message_of_a_task_with_errors_lists_all_of_them() -> None:
    rows = (CheckRow("inputs", "all is well"), CheckRow("overlap", "3 samples.", "error", "Split."),
            CheckRow("loss", "It is nan.", "error"))
    with pytest.raises(UserError) as caught:
        of(Coordinator(done(TaskCheck(rows))))
    assert str(caught.value).splitlines() == [
        "The task 'own:task' cannot be used:", "  overlap: 3 samples. Split.",
        "  loss: It is nan.", "`fleetfront tasks check own:task` shows all."]


@pytest.mark.parametrize(("change", "said"), [
    ({"parts": {"weights": "c", "training": "b"}}, "the weights."),
    ({"parts": {"weights": "a", "training": "c"}}, "the training data."),
    ({"parts": {"weights": "a", "training": "b", "loss": "mse"}}, "the loss."),
    ({"samples": {**FACTS.samples, "test": 40}}, "the number of test samples (50, now 40)."),
    ({}, "its identity.")])
def test_a_changed_task_says_what_changed(change: dict[str, Any], said: str) -> None:
    now = replace(FACTS, digest="e" * 64, **change)
    with pytest.raises(UserError) as caught:
        of(Coordinator(done(replace(CHECK, facts=now)), FACTS))
    assert f"has changed since the campaign 'digits' began: {said}" in str(caught.value)
    assert "give the campaign another name" in str(caught.value)


@pytest.mark.parametrize(("reason", "kind"), [("user", UserError), ("quarantined", BuildError)])
def test_a_check_that_does_not_end(reason: str, kind: type[Exception]) -> None:
    job = Job(1, "failed", reason=reason, message="its builder ended (signal 9)")
    with pytest.raises(kind, match="could not be checked: its builder ended"):
        of(Coordinator(job))
