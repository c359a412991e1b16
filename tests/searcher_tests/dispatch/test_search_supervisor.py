"""Supervision of searches: which campaigns run, and their states after a search ended."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from searcher.dispatch.search_supervisor import Supervision
from searcher.errors import ProtocolError
from searcher.ledger.tables import campaigns, search_state
from searcher.workers.search_processes import NoSearches
from tests.searcher_tests.dispatch.laboratory import SPEC, Laboratory
from tests.storage.make_v4 import STATE


class Remembering(NoSearches):
    """Searches that only record the wanted campaigns."""

    def __init__(self) -> None:
        self.wanted: list[str] = []

    def drive(self, wanted: Sequence[str]) -> None:
        self.wanted = list(wanted)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    for name, priority in (("old", 0), ("young", 0), ("urgent", 5)):
        with laboratory.store.atomic() as db:
            campaigns.create(db, name, {**SPEC, "name": name}, laboratory.clock(), priority)
    yield laboratory
    laboratory.store.close()


@pytest.fixture
def supervised(lab: Laboratory) -> tuple[Supervision, Remembering]:
    supervision, searches = Supervision(lab.coordinator), Remembering()
    supervision.start(searches)
    return supervision, searches


Supervised = tuple[Supervision, Remembering]


def state(lab: Laboratory, name: str) -> str:
    return lab.coordinator.campaign(name).state


def test_searches_start_by_priority_then_age(supervised: Supervised) -> None:
    assert supervised[1].wanted == ["urgent", "old", "young"]


def test_pause_resume_and_cancel(lab: Laboratory, supervised: Supervised) -> None:
    lab.coordinator.set_campaign_state("old", "running")
    lab.coordinator.set_campaign_state("old", "paused")
    assert supervised[1].wanted == ["urgent", "young"]
    lab.coordinator.set_campaign_state("old", "queued")
    assert supervised[1].wanted == ["urgent", "old", "young"]
    lab.coordinator.set_campaign_state("urgent", "cancelled")
    assert supervised[1].wanted == ["old", "young"]


def test_a_tick_updates_the_searches(lab: Laboratory, supervised: Supervised) -> None:
    supervised[1].wanted = []
    lab.coordinator.tick()
    assert supervised[1].wanted == ["urgent", "old", "young"]


@pytest.mark.parametrize("rest", ["paused", "cancelled", "done", "failed"])
def test_a_late_request_of_a_search_does_not_change_the_state(lab: Laboratory, rest: str) -> None:
    lab.coordinator.set_campaign_state("old", rest)
    with pytest.raises(ProtocolError, match=f"is {rest}; it cannot become running") as refused:
        lab.coordinator.set_campaign_state("old", "running")
    assert refused.value.status == 409 and state(lab, "old") == rest
    with pytest.raises(ProtocolError, match=f"Campaign old is {rest}, not running") as unsaved:
        lab.coordinator.save_search_state("old", "tx2", STATE)
    assert unsaved.value.status == 409
    assert search_state.of_campaign(lab.store.db, "old") == {}


def test_a_search_that_outlived_a_coordinator_runs_its_campaign(lab: Laboratory) -> None:
    """A coordinator that starts queues the campaigns whose searches it did not start."""
    assert state(lab, "old") == "queued"
    lab.coordinator.save_search_state("old", "tx2", STATE)
    assert state(lab, "old") == "running"
    assert search_state.of_campaign(lab.store.db, "old") == {"tx2": STATE}


def test_done_is_final(lab: Laboratory) -> None:
    lab.coordinator.set_campaign_state("old", "done")
    for other in ("queued", "paused", "failed", "cancelled"):
        with pytest.raises(ProtocolError, match="another name"):
            lab.coordinator.set_campaign_state("old", other)


def test_a_campaign_is_queued_again_after_its_search_ended(
    lab: Laboratory, supervised: Supervised
) -> None:
    lab.coordinator.set_campaign_state("old", "running")
    supervised[0].search_ended("old")
    assert state(lab, "old") == "queued"
    lab.coordinator.set_campaign_state("young", "done")
    supervised[0].search_ended("young")
    assert state(lab, "young") == "done"


def test_a_failure_is_recorded_unless_the_search_recorded_one(
    lab: Laboratory, supervised: Supervised
) -> None:
    supervised[0].search_failed("old", "crashed thrice")
    assert (state(lab, "old"), lab.coordinator.campaign("old").reason) == (
        "failed", "crashed thrice")
    lab.coordinator.set_campaign_state("young", "failed", "no such task")
    supervised[0].search_failed("young", "exit code 1")
    assert lab.coordinator.campaign("young").reason == "no such task"
    assert supervised[1].wanted == ["urgent"]


def test_a_new_coordinator_restarts_running_campaigns(lab: Laboratory) -> None:
    lab.coordinator.set_campaign_state("old", "running")
    lab.coordinator.set_campaign_state("young", "paused")
    again = lab.reopened()
    supervision, searches = Supervision(again.coordinator), Remembering()
    supervision.start(searches)
    assert searches.wanted == ["urgent", "old"]
    assert [state(again, n) for n in ("old", "young")] == ["queued", "paused"]
    again.store.close()
    lab.store = again.store


def test_progress_grows_with_jobs_and_trials(lab: Laboratory, supervised: Supervised) -> None:
    supervision, builder = supervised[0], lab.builder()
    seen = [supervision.progress_of("old")]
    lab.compress(campaign="old")
    lab.leased(builder)
    assert supervision.progress_of("old") == seen[0], "nothing has come of it yet"
    lab.coordinator.builder_ended(builder.id, "signal 9")
    lab.coordinator.cancel_queued("old", [])
    assert supervision.progress_of("old") > seen[0]
