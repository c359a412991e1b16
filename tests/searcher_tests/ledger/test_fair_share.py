"""Fair shares: by priority, then by the least used time."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.ledger.rows import JobRow
from searcher.ledger.tables import campaigns, fair_share, jobs
from tests.searcher_tests.dispatch.laboratory import SPEC, Laboratory


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def campaign(lab: Laboratory, name: str, priority: int = 0) -> None:
    with lab.store.atomic() as db:
        campaigns.create(db, name, {**SPEC, "name": name}, lab.clock(), priority)
        fair_share.enter(db, name)


def compress_many(lab: Laboratory, name: str, first: int, count: int) -> list[JobRow]:
    return [lab.compress(number, campaign=name) for number in range(first, first + count)]


def served(lab: Laboratory, count: int, seconds: dict[str, float]) -> list[str]:
    """Campaigns of the leased jobs, when jobs of ``name`` take ``seconds[name]``."""
    builder, names = lab.builder(), []
    for _ in range(count):
        job = lab.leased(builder)
        names.append(str(job.campaign))
        lab.clock.advance(seconds[str(job.campaign)])
        lab.done(builder, job)
    return names


def test_equal_campaigns_get_equal_time_not_equal_numbers(lab: Laboratory) -> None:
    for place, name in enumerate(("long", "short")):
        campaign(lab, name)
        compress_many(lab, name, 100 * place, 40)
    counts = Counter(served(lab, 40, {"long": 30.0, "short": 10.0}))
    assert counts == {"long": 10, "short": 30}


def test_a_higher_priority_goes_first_and_leaves_the_rest(lab: Laboratory) -> None:
    for place, (name, priority) in enumerate((("idle", -5), ("plain", 0), ("urgent", 5))):
        campaign(lab, name, priority)
        compress_many(lab, name, 100 * place, 2)
    names = served(lab, 6, {"idle": 1.0, "plain": 1.0, "urgent": 1.0})
    assert names == ["urgent"] * 2 + ["plain"] * 2 + ["idle"] * 2


def test_a_command_line_waits_for_urgent_campaigns_only(lab: Laboratory) -> None:
    for place, (name, priority) in enumerate((("plain", 0), ("urgent", 1))):
        campaign(lab, name, priority)
        compress_many(lab, name, 100 * place, 1)
    lab.compress(500)
    assert served(lab, 3, {"None": 1.0, "plain": 1.0, "urgent": 1.0}) == [
        "urgent", "None", "plain"]


def test_a_newcomer_has_no_claim_on_the_past(lab: Laboratory) -> None:
    campaign(lab, "old")
    compress_many(lab, "old", 0, 40)
    served(lab, 10, {"old": 60.0})
    campaign(lab, "new")
    compress_many(lab, "new", 100, 40)
    counts = Counter(served(lab, 20, {"old": 60.0, "new": 60.0}))
    assert abs(counts["old"] - counts["new"]) <= 1


def test_a_resumed_campaign_has_no_claim_on_the_time_of_its_pause(lab: Laboratory) -> None:
    for place, name in enumerate(("busy", "paused")):
        campaign(lab, name)
        compress_many(lab, name, 100 * place, 60)
    lab.coordinator.set_campaign_state("paused", "paused")
    assert set(served(lab, 10, {"busy": 60.0})) == {"busy"}, "a paused one is held back"
    lab.coordinator.set_campaign_state("paused", "queued")
    counts = Counter(served(lab, 20, {"busy": 60.0, "paused": 60.0}))
    assert abs(counts["busy"] - counts["paused"]) <= 1


def test_a_job_that_two_want_is_done_for_the_one_that_lives(lab: Laboratory) -> None:
    for name in ("first", "second", "third"):
        campaign(lab, name)
    lab.compress(1, campaign="first")
    lab.compress(1, campaign="second")
    lab.coordinator.set_campaign_state("first", "paused")
    found = jobs.next_queued(lab.store.db, "builder")
    assert found is not None and found.campaign == "first"
    lab.coordinator.set_campaign_state("second", "paused")
    assert jobs.next_queued(lab.store.db, "builder") is None


def test_what_a_lost_lease_used_counts_too(lab: Laboratory) -> None:
    campaign(lab, "digits")
    lab.compress(0, campaign="digits")
    builder = lab.builder()
    lab.leased(builder)
    lab.clock.advance(100.0)
    lab.coordinator.tick()
    used = lab.store.db.execute("SELECT pool, used_s FROM shares").fetchone()
    assert used[0] == "builder" and used[1] == pytest.approx(100.0, abs=0.1)
