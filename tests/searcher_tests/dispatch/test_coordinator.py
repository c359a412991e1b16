"""The coordinator: leases, quiet windows, spans, restarts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.dispatch.coordinator import Coordinator, Rules
from searcher.dispatch.quiet_window import WindowRules
from searcher.errors import LedgerError, ProtocolError
from searcher.ledger.rows import JobRow, SpanRow
from searcher.ledger.store import LedgerFull
from searcher.ledger.tables import campaigns, jobs, spans
from tests.searcher_tests.dispatch.laboratory import (
    SPEC,
    Laboratory,
    envelope,
    measure_payload,
    measure_result,
    measured,
)
from tests.stored_rows import measurements_of_job


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def job_of(coordinator: Coordinator, job: JobRow) -> JobRow:
    found = jobs.get(coordinator.store.db, job.id)
    assert found is not None
    return found


def campaign(lab: Laboratory, name: str = "digits") -> str:
    with lab.store.atomic() as db:
        campaigns.create(db, name, {**SPEC, "name": name}, lab.clock())
    lab.coordinator.set_campaign_state(name, "running")
    return name


def overlaps(found: list[SpanRow]) -> list[tuple[SpanRow, SpanRow]]:
    """Pairs of a measure span and another span that overlap for more than an instant."""
    return [
        (m, b) for m in found if m.kind == "measure" for b in found if b.kind != "measure"
        and m.start_s < (b.end_s or float("inf")) and b.start_s < (m.end_s or float("inf"))
    ]


def test_a_device_elsewhere_measures_while_builders_build(lab: Laboratory) -> None:
    agent, builder = lab.device("local_cpu", hostname="elsewhere"), lab.builder()
    lab.compress()
    lab.measure()
    lab.leased(builder)
    assert lab.leased(agent).kind == "measure"
    assert "pause" not in lab.workers.calls


def test_a_window_opens_at_once_while_nothing_is_built(lab: Laboratory) -> None:
    agent = lab.device()
    lab.measure()
    job = lab.leased(agent)
    assert lab.workers.paused
    lab.done(agent, job)
    assert not lab.workers.paused
    assert "builder" in lab.published


def test_a_window_waits_for_enough_building(lab: Laboratory) -> None:
    agent, builder = lab.device(), lab.builder()
    lab.compress()
    build = lab.leased(builder)
    lab.measure()
    assert lab.coordinator.lease(agent) is None
    wait_s = lab.coordinator.retry_s(agent)
    assert wait_s is not None and 1.9 < wait_s <= 2.0
    lab.clock.advance(2.0)
    measure = lab.leased(agent)
    assert lab.workers.paused and lab.coordinator.lease(builder) is None
    assert job_of(lab.coordinator, build).state == "queued", "the builder asked for other work"
    lab.done(agent, measure)
    assert not lab.workers.paused


def test_many_waiting_candidates_open_a_window(lab: Laboratory) -> None:
    agent, builder = lab.device(), lab.builder()
    lab.compress()
    lab.leased(builder)
    lab.measure(candidates=3)
    assert lab.coordinator.lease(agent) is None
    lab.measure(1)
    assert lab.coordinator.lease(agent) is not None


def test_queued_builds_count_as_building(lab: Laboratory) -> None:
    agent = lab.device()
    lab.compress()
    lab.measure()
    assert lab.coordinator.lease(agent) is None
    lab.clock.advance(10.0)
    assert lab.coordinator.lease(agent) is not None, "but a measurement never waits for ever"


def test_spans_cover_building_and_never_overlap(lab: Laboratory) -> None:
    campaign(lab)
    agent, builder = lab.device(), lab.builder()
    lab.compress(campaign="digits")
    build = lab.leased(builder)
    lab.measure(0, campaign="digits")
    lab.measure(1, campaign="digits")
    lab.clock.advance(3.0)
    for _ in range(2):
        measure = lab.leased(agent)
        lab.clock.advance(1.0)
        lab.done(agent, measure)
    lab.clock.advance(1.5)
    lab.done(builder, build)
    found = spans.history(lab.store.db, "digits")
    assert [s.kind for s in found] == ["build", "measure", "measure", "build"]
    assert overlaps(found) == []
    assert all(s.end_s is not None for s in found)
    built_s = sum((s.end_s or 0) - s.start_s for s in found if s.kind == "build")
    assert built_s == pytest.approx(4.5, abs=1e-3)
    assert lab.workers.calls.count("pause") == 1, "both measurements share one window"


def test_leases_of_stopped_builders_do_not_expire(lab: Laboratory) -> None:
    agent, builder = lab.device(), lab.builder()
    lab.compress()
    build = lab.leased(builder)
    lab.measure()
    lab.clock.advance(3.0)
    measure = lab.leased(agent)
    for _ in range(30):
        lab.clock.advance(10.0)
        lab.coordinator.heartbeat(agent, measure.id, measure.fence or 0, 0.5)
        lab.coordinator.tick()
        if job_of(lab.coordinator, measure).state != "leased":
            break
    lab.coordinator.tick()
    after = job_of(lab.coordinator, build)
    assert after.state == "leased" and after.fence == build.fence
    lab.done(builder, build)


def test_a_window_closes_when_its_device_does_not_return(lab: Laboratory) -> None:
    agent, builder = lab.device(), lab.builder()
    lab.compress()
    lab.leased(builder)
    lab.measure(0)
    lab.measure(1)
    lab.clock.advance(3.0)
    lab.done(agent, lab.leased(agent))
    assert lab.workers.paused, "the second measurement shares the window"
    assert lab.coordinator.tick() <= 1.0
    lab.clock.advance(1.1)
    lab.coordinator.tick()
    assert not lab.workers.paused


def test_a_long_window_lets_builders_work_in_between(tmp_path: Path) -> None:
    lab = Laboratory.open(tmp_path, rules=Rules(window=WindowRules(longest_s=5.0)))
    agent, builder = lab.device(), lab.builder()
    lab.compress()
    lab.leased(builder)
    lab.measure(0)
    lab.measure(1)
    lab.clock.advance(3.0)
    first = lab.leased(agent)
    lab.clock.advance(6.0)
    lab.done(agent, first)
    assert not lab.workers.paused and lab.coordinator.lease(agent) is None
    lab.store.close()


def test_the_stop_of_running_builders_is_repeated(lab: Laboratory) -> None:
    agent, builder = lab.device(), lab.builder()
    lab.workers.obeys = False
    lab.compress()
    lab.measure()
    lab.clock.advance(11.0)
    assert lab.coordinator.lease(agent) is None
    assert lab.coordinator.retry_s(agent) == pytest.approx(0.02)
    assert lab.coordinator.lease(builder) is None, "no new build while builders are to stop"
    lab.workers.obeys = True
    assert lab.coordinator.lease(agent) is not None

    lab.clock.advance(60.0)
    lab.coordinator.tick()
    assert not lab.workers.paused


def test_builders_resume_when_the_measurement_is_cancelled_while_they_stop(
        lab: Laboratory) -> None:
    agent = lab.device()
    name = campaign(lab)
    lab.workers.obeys = False
    lab.measure(campaign=name)
    assert lab.coordinator.lease(agent) is None
    lab.coordinator.set_campaign_state(name, "cancelled")
    assert lab.workers.calls[-1] == "resume"


def test_only_one_measurement_at_a_time_on_a_host(lab: Laboratory) -> None:
    first, second = lab.device("local_cpu"), lab.device("second")
    lab.measure()
    file = lab.artifact(b"candidate 0 0")
    payload = {**lab.measure().payload, "candidates": [file], "attempt": 2}
    lab.coordinator.submit("measure", "device:second", payload)
    job = lab.leased(first)
    assert lab.coordinator.lease(second) is None
    lab.done(first, job)
    assert "device:second" in lab.published
    assert lab.coordinator.lease(second) is not None


def test_a_lost_job_is_queued_again_and_fails_after_three_strikes(lab: Laboratory) -> None:
    builder = lab.builder()
    job = lab.compress(campaign=campaign(lab))
    fences = []
    for _ in range(3):
        leased = lab.leased(builder)
        fences.append(leased.fence)
        lab.clock.advance(61.0)
        lab.coordinator.tick()
    after = job_of(lab.coordinator, job)
    assert (after.state, after.reason, after.attempt) == ("failed", "quarantined", 3)
    assert fences == sorted(set(fences))
    assert "campaign:digits" in lab.published


def test_the_job_of_an_ended_builder_is_queued_at_once(lab: Laboratory) -> None:
    builder = lab.builder()
    job = lab.compress()
    lab.leased(builder)
    assert lab.coordinator.builder_ended(builder.id, "signal 9 (SIGKILL)")
    assert job_of(lab.coordinator, job).state == "queued"
    assert not lab.coordinator.builder_ended(lab.builder("idle").id, "exit code 1")


def test_a_broken_pool_fails_its_queue_and_a_new_request_restarts_the_job(lab: Laboratory) -> None:
    name = campaign(lab)
    lab.workers.broken = "the builder cannot import torch"
    job = lab.compress(campaign=name)
    assert (job.state, job.reason) == ("failed", "no_builder")
    assert "torch" in (job.message or "")
    lab.workers.broken = None
    assert lab.compress(campaign=name).state == "queued"


def test_the_same_request_is_the_same_job(lab: Laboratory) -> None:
    builder = lab.builder()
    job = lab.compress()
    lab.done(builder, lab.leased(builder))
    again = lab.compress()
    assert (again.id, again.state) == (job.id, "done")
    assert lab.coordinator.lease(builder) is None


def test_a_result_counts_once_and_only_under_its_fence(lab: Laboratory) -> None:
    builder, other = lab.builder(), lab.builder("builder-1")
    lab.compress()
    stale = lab.leased(builder)
    lab.clock.advance(61.0)
    lab.coordinator.tick()
    current = lab.leased(other)
    with pytest.raises(ProtocolError) as refused:
        lab.done(builder, stale)
    assert refused.value.status == 409
    with pytest.raises(ProtocolError, match="not in force"):
        lab.coordinator.heartbeat(builder, stale.id, stale.fence or 0, None)
    lab.done(other, current)
    lab.done(other, current)
    with pytest.raises(ProtocolError, match="already accepted"):
        lab.put(other, current, envelope({"reason": "late", "message": "another"}, "failed"))


def test_a_full_disk_refuses_the_result_and_keeps_the_lease(lab: Laboratory) -> None:
    agent, builder = lab.device(), lab.builder()
    lab.compress()
    build = lab.leased(builder)
    lab.measure()
    lab.clock.advance(3.0)
    job = lab.leased(agent)
    pages = lab.store.db.execute("PRAGMA page_count").fetchone()[0]
    lab.store.db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    large = measure_result(job.payload)
    large["measurements"] = [measured(job.payload["candidates"][0]["sha256"], blocks=4000)]
    with pytest.raises(LedgerFull, match="No room"):
        lab.put(agent, job, envelope(large))
    assert lab.coordinator.tick() > 0
    assert job_of(lab.coordinator, job).state == "leased"
    assert measurements_of_job(lab.store.db, job.id) == []
    lab.store.db.execute("PRAGMA max_page_count = 1000000").fetchone()
    lab.put(agent, job, envelope(large))
    assert job_of(lab.coordinator, job).state == "done"
    lab.done(builder, build)
    assert overlaps(spans.history(lab.store.db)) == []


def test_builders_continue_when_the_lease_of_a_window_cannot_be_stored(
        lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = lab.device()
    lab.measure()

    def refuse(*_: object) -> None:
        raise LedgerError("the disk is gone")

    monkeypatch.setattr(spans, "start", refuse)
    with pytest.raises(LedgerError):
        lab.coordinator.lease(agent)
    assert not lab.workers.paused


def test_after_a_crash_builders_jobs_are_queued_and_agents_keep_theirs(lab: Laboratory) -> None:
    agent, builder = lab.device("remote", hostname="elsewhere"), lab.builder()
    build = lab.compress()
    lab.leased(builder)
    lab.clock.advance(5.0)
    lab.coordinator.heartbeat(builder, build.id, job_of(lab.coordinator, build).fence or 0, 0.1)
    lab.coordinator.tick()
    last_sign_s = lab.clock.now_s
    file = lab.artifact(b"candidate")
    payload = {**lab.measure().payload, "candidates": [file]}
    lab.coordinator.submit("measure", "device:remote", payload)
    measure = lab.leased(agent)
    lab.clock.advance(300.0)
    again = lab.reopened()
    found = job_of(again.coordinator, build)
    assert (found.state, found.strikes) == ("queued", 0)
    assert again.workers.started
    ended = [s.end_s for s in spans.history(again.store.db) if s.kind == "build"]
    assert ended == [pytest.approx(last_sign_s, abs=1e-3)]
    again.coordinator.tick()
    again.done(agent, measure)
    assert job_of(again.coordinator, measure).state == "done"
    again.store.close()


def test_after_a_crash_builders_wait_for_a_measurement_on_this_host(lab: Laboratory) -> None:
    agent = lab.device()
    lab.measure()
    job = lab.leased(agent)
    again = lab.reopened()
    assert not again.workers.started
    again.done(agent, job)
    assert again.workers.started
    again.store.close()


def test_after_a_crash_a_clock_that_was_set_back_keeps_no_lease_for_hours(
    lab: Laboratory,
) -> None:
    agent = lab.device("board", hostname="elsewhere")
    job = lab.coordinator.submit("measure", "device:board", measure_payload(
        lab.artifact(b"reference"), lab.artifact(b"candidate")))
    lab.leased(agent)
    lab.clock.advance(-10_000.0)
    again = lab.reopened()
    again.clock.advance(again.coordinator.rules.lease.device_ttl_s - 1)
    again.coordinator.tick()
    assert job_of(again.coordinator, job).state == "leased"
    again.clock.advance(1.1)
    again.coordinator.tick()
    assert job_of(again.coordinator, job).state == "queued"
    again.store.close()


def test_jobs_of_a_replaced_agent_are_queued_again(lab: Laboratory) -> None:
    old = lab.device()
    lab.measure()
    lab.leased(old)
    again = lab.reopened()
    new = again.device()
    assert again.coordinator.lease(old) is None, "its secret was revoked"
    job = again.leased(new)
    assert job.attempt == 2 and job.strikes == 0
    again.store.close()


def test_the_end_of_a_campaign_cancels_jobs_that_only_it_wants(lab: Laboratory) -> None:
    builder = lab.builder()
    one, two = campaign(lab, "one"), campaign(lab, "two")
    running = lab.compress(0, campaign=one)
    shared = lab.compress(1, campaign=one)
    lab.compress(1, campaign=two)
    alone = lab.compress(2, campaign=one)
    leased = lab.leased(builder)
    assert leased.id == running.id
    lab.coordinator.set_campaign_state(one, "cancelled")
    assert job_of(lab.coordinator, alone).state == "cancelled"
    assert job_of(lab.coordinator, shared).state == "queued"
    assert lab.coordinator.heartbeat(builder, leased.id, leased.fence or 0, None) == "cancel"
    lab.put(builder, leased, envelope({"reason": "cancelled", "message": "asked to"}, "failed"))
    assert job_of(lab.coordinator, running).state == "cancelled"
    assert lab.compress(2, campaign=two).state == "queued", "a cancelled job starts over"


def test_a_paused_campaign_keeps_its_jobs_waiting(lab: Laboratory) -> None:
    builder, name = lab.builder(), campaign(lab)
    lab.compress(campaign=name)
    lab.coordinator.set_campaign_state(name, "paused")
    assert lab.coordinator.lease(builder) is None
    lab.coordinator.set_campaign_state(name, "queued")
    assert lab.coordinator.lease(builder) is not None


def test_cancellation_keeps_other_kinds_and_other_campaigns(lab: Laboratory) -> None:
    one, two = campaign(lab, "one"), campaign(lab, "two")
    alone, shared = lab.compress(0, campaign=one), lab.compress(1, campaign=one)
    lab.compress(1, campaign=two)
    measure = lab.measure(campaign=one)
    assert lab.coordinator.cancel_queued(one, ["compress"]) == 1
    states = [job_of(lab.coordinator, job).state for job in (alone, shared, measure)]
    assert states == ["cancelled", "queued", "queued"]
    assert lab.coordinator.cancel_queued(one, []) == 1


def test_priority_then_age(lab: Laboratory) -> None:
    builder = lab.builder()
    lab.compress(0)
    second = lab.compress(1, priority=5)
    third = lab.compress(2)
    lab.compress(2, priority=9)
    order = []
    for _ in range(2):
        job = lab.leased(builder)
        order.append(job.id)
        lab.done(builder, job)
    assert order == [third.id, second.id]


def test_heartbeats_do_not_extend_a_lease_past_its_deadline(lab: Laboratory) -> None:
    agent = lab.device("remote", hostname="elsewhere")
    payload = {**lab.measure().payload, "candidates": [lab.artifact(b"x")]}
    lab.coordinator.submit("measure", "device:remote", payload)
    job = lab.leased(agent)
    deadline_s = (job.deadline_at_s or 0.0) - lab.clock.now_s
    assert 100 < deadline_s < 600
    verdict = "continue"
    while verdict == "continue":
        lab.clock.advance(20.0)
        verdict = lab.coordinator.heartbeat(agent, job.id, job.fence or 0, 0.5)
    lab.coordinator.tick()
    assert job_of(lab.coordinator, job).state == "queued"


def test_a_measure_job_needs_its_files(lab: Laboratory) -> None:
    payload = {**lab.measure().payload, "candidates": [{"sha256": "0" * 64, "size_bytes": 4}]}
    with pytest.raises(ProtocolError, match="no artifact") as refused:
        lab.coordinator.submit("measure", "device:local_cpu", payload)
    assert refused.value.status == 404
