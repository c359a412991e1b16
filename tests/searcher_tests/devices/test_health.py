"""States of devices: drain, quarantine by failures, release, removal, waiting."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searcher.devices.health import BLAMES_DEVICE, DeviceRules, absence, described
from searcher.dispatch.coordinator import Rules
from searcher.dispatch.quiet_window import WindowRules
from searcher.errors import ProtocolError
from searcher.ledger.rows import AgentRow, DeviceRow, JobRow
from searcher.ledger.tables import devices, jobs, spans
from tests.searcher_tests.dispatch.laboratory import Laboratory, envelope

DEVICE = DeviceRow("tx2", None, {}, {}, 0, "active", 1.0, 2.0, 0, None)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


@pytest.fixture
def agent(lab: Laboratory) -> AgentRow:
    return lab.device(hostname="elsewhere")


def device(lab: Laboratory) -> DeviceRow:
    found = devices.device(lab.store.db, "local_cpu")
    assert found is not None
    return found


def state_of(lab: Laboratory, job: JobRow) -> tuple[str, str | None]:
    found = jobs.get(lab.store.db, job.id)
    assert found is not None
    return found.state, found.reason


def lose(lab: Laboratory, agent: AgentRow) -> None:
    lab.leased(agent)
    lab.clock.advance(31.0)
    lab.coordinator.tick()


def fail(lab: Laboratory, agent: AgentRow, reason: str) -> None:
    lab.put(agent, lab.leased(agent), envelope({"reason": reason, "message": "why"}, "failed"))


# -- drain ----------------------------------------------------------------------------------


def test_a_draining_device_ends_its_job_and_gets_no_other(
    lab: Laboratory, agent: AgentRow
) -> None:
    first, second = lab.measure(0), lab.measure(1)
    running = lab.leased(agent)
    drained = lab.coordinator.set_device_state("local_cpu", "draining")
    assert described(drained, running)["state"] == "draining"
    assert lab.coordinator.heartbeat(agent, running.id, running.fence or 0, 0.5) == "continue"
    lab.done(agent, running)
    assert state_of(lab, first) == ("done", None)
    assert lab.coordinator.lease(agent) is None
    assert described(device(lab), None)["state"] == "drained"
    lab.published.clear()
    lab.coordinator.set_device_state("local_cpu", "active")
    assert "device:local_cpu" in lab.published
    assert lab.leased(agent).id == second.id


def test_a_device_that_is_out_of_service_is_seen_all_the_same(
    lab: Laboratory, agent: AgentRow
) -> None:
    lab.coordinator.set_device_state("local_cpu", "quarantined")
    lab.clock.advance(60.0)
    assert lab.coordinator.lease(agent) is None
    assert device(lab).last_seen_s == pytest.approx(lab.clock.now_s, abs=1.0)


def test_a_device_that_is_out_of_service_does_not_wait_for_a_window(lab: Laboratory) -> None:
    """Otherwise its long poll would repeatedly look for a window that is not allowed."""
    agent = lab.device()
    lab.compress()
    lab.leased(lab.builder())
    lab.measure()
    assert lab.coordinator.lease(agent) is None
    assert lab.coordinator.retry_s(agent) is not None
    lab.coordinator.set_device_state("local_cpu", "draining")
    assert lab.coordinator.retry_s(agent) is None


@pytest.mark.parametrize(("before", "after"), [
    ("quarantined", "draining"), ("removed", "active"), ("removed", "draining"),
    ("removed", "quarantined")])
def test_states_that_cannot_follow(lab: Laboratory, agent: AgentRow, before: str, after: str
                                   ) -> None:
    lab.coordinator.set_device_state("local_cpu", before)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match=f"is {before} and cannot become {after}") as refused:
        lab.coordinator.set_device_state("local_cpu", after)  # type: ignore[arg-type]
    assert refused.value.status == 409
    assert device(lab).state == before


def test_unknown_devices(lab: Laboratory) -> None:
    with pytest.raises(ProtocolError, match="no device 'tx9'") as refused:
        lab.coordinator.set_device_state("tx9", "active")
    assert refused.value.status == 404


# -- removal --------------------------------------------------------------------------------


def test_a_removed_device_loses_its_secret_and_its_jobs(lab: Laboratory) -> None:
    token, _ = lab.coordinator.roster.invite("local_cpu", "agent", None, 60.0)
    _, secret = lab.coordinator.enrol(token, "local_cpu", {"hostname": "elsewhere"}, {})
    agent = lab.coordinator.roster.recognised(secret)
    assert isinstance(agent, AgentRow)
    held, queued, build = lab.measure(0), lab.measure(1), lab.compress()
    running = lab.leased(agent)
    lab.coordinator.set_device_state("local_cpu", "removed", "sold")
    assert lab.coordinator.roster.recognised(secret) is None
    assert state_of(lab, held) == state_of(lab, queued) == ("failed", "device_removed")
    assert state_of(lab, build) == ("queued", None)
    assert spans.still_open(lab.store.db) == []
    assert {f"job:{held.id}", f"job:{queued.id}"} <= set(lab.published)
    with pytest.raises(ProtocolError, match="not in force"):
        lab.done(agent, running)
    with pytest.raises(ProtocolError, match="was removed. Enrol it again"):
        lab.measure(1)
    again = lab.device(hostname="elsewhere")
    assert device(lab).state == "active" and device(lab).reason is None
    assert lab.measure(1).id == queued.id
    assert lab.leased(again).id == queued.id


def test_removing_a_device_on_this_host_lets_builders_go_on(lab: Laboratory) -> None:
    agent = lab.device()
    lab.measure()
    lab.leased(agent)
    assert lab.workers.paused
    lab.coordinator.set_device_state("local_cpu", "removed")
    assert not lab.workers.paused
    assert lab.workers.calls[-1] == "resume"


# -- quarantine -----------------------------------------------------------------------------


def test_lost_leases_of_different_jobs_quarantine_the_device(
    lab: Laboratory, agent: AgentRow
) -> None:
    deadly, second = lab.measure(0), lab.measure(1)
    for _ in range(3):
        lose(lab, agent)
    assert state_of(lab, deadly) == ("failed", "quarantined")
    assert (device(lab).state, device(lab).strikes) == ("active", 3)
    lose(lab, agent)
    quarantined = device(lab)
    assert (quarantined.state, quarantined.strikes) == ("quarantined", 4)
    assert f"job {second.id} was lost: no heartbeat" in (quarantined.reason or "")
    assert state_of(lab, second) == ("queued", None)
    assert lab.coordinator.lease(agent) is None

    lab.coordinator.set_device_state("local_cpu", "active")
    assert (device(lab).strikes, device(lab).reason) == (0, None)
    assert lab.leased(agent).id == second.id


@pytest.mark.parametrize("reason", BLAMES_DEVICE)
def test_failures_that_blame_the_device_quarantine_it(
    lab: Laboratory, agent: AgentRow, reason: str
) -> None:
    for number in range(4):
        lab.measure(number)
    for _ in range(3):
        fail(lab, agent, reason)
    assert device(lab).state == "quarantined"
    assert reason in (device(lab).reason or "") and "why" in (device(lab).reason or "")
    assert lab.coordinator.lease(agent) is None


@pytest.mark.parametrize("reason", ["reference", "payload", "kind", "cancelled"])
def test_other_failures_do_not(lab: Laboratory, agent: AgentRow, reason: str) -> None:
    for number in range(4):
        lab.measure(number)
        fail(lab, agent, reason)
    assert (device(lab).state, device(lab).strikes) == ("active", 0)


def test_a_result_clears_the_strikes(lab: Laboratory, agent: AgentRow) -> None:
    for number in range(6):
        lab.measure(number)
    for _ in range(2):
        fail(lab, agent, "runtime")
        fail(lab, agent, "disk")
        assert device(lab).strikes == 2
        lab.done(agent, lab.leased(agent))
        assert (device(lab).state, device(lab).strikes) == ("active", 0)


def test_a_runtime_that_the_device_never_had_is_the_requests_fault(lab: Laboratory) -> None:
    token, _ = lab.coordinator.roster.invite("local_cpu", "agent", None, 60.0)
    _, secret = lab.coordinator.enrol(
        token, "local_cpu", {"hostname": "elsewhere"}, {"runtimes": {"tflite": {}}})
    agent = lab.coordinator.roster.recognised(secret)
    assert isinstance(agent, AgentRow)
    for number in range(4):
        lab.measure(number)
        fail(lab, agent, "runtime")
    assert (device(lab).state, device(lab).strikes) == ("active", 0)


def test_builders_are_not_quarantined(lab: Laboratory) -> None:
    builder = lab.builder()
    for number in range(4):
        lab.compress(number)
        lab.put(builder, lab.leased(builder), envelope({"reason": "disk", "message": ""}, "failed"))
    lab.compress(9)
    assert lab.leased(builder).kind == "compress"


def test_a_restart_remembers_the_strikes(lab: Laboratory, agent: AgentRow) -> None:
    for number in range(3):
        lab.measure(number)
    fail(lab, agent, "runtime")
    fail(lab, agent, "runtime")
    again = lab.reopened()
    fail(again, agent, "runtime")
    assert device(again).state == "quarantined"
    again.store.close()


def test_rules_come_with_the_coordinator(tmp_path: Path) -> None:
    lab = Laboratory.open(tmp_path, rules=Rules(
        window=WindowRules(), device=DeviceRules(most_strikes=2)))
    agent = lab.device(hostname="elsewhere")
    for number in range(2):
        lab.measure(number)
        fail(lab, agent, "disk")
    assert device(lab).state == "quarantined"
    lab.store.close()


@given(strikes=st.integers(0, 50), own=st.integers(0, 50), most=st.integers(1, 10))
def test_one_job_alone_never_quarantines(strikes: int, own: int, most: int) -> None:
    rules, of = DeviceRules(most), replace(DEVICE, strikes=strikes)
    job = _job(own)
    assert not DeviceRules(1).quarantine(replace(DEVICE, strikes=own), job)
    assert rules.quarantine(of, job) == (strikes + 1 >= most and strikes > own)


def _job(strikes: int) -> JobRow:
    return JobRow(
        1, "k", "measure", "device:tx2", None, {}, 0, "leased", 0, 1, strikes, 1, "a", 1.0, 1.0,
        2.0, 3.0, None, None, None, None, None, 0.0, 1.0, None, None, None)


# -- patience in the queue ------------------------------------------------------------------


def test_a_job_waits_as_long_as_it_may(lab: Laboratory, agent: AgentRow) -> None:
    job, patient = lab.measure(0, queue_s=60.0), lab.measure(1)
    lab.clock.advance(59.0)
    lab.coordinator.tick()
    assert state_of(lab, job) == ("queued", None)
    lab.clock.advance(2.0)
    lab.coordinator.tick()
    assert state_of(lab, job) == ("failed", "queue_timeout")
    assert state_of(lab, patient) == ("queued", None)
    found = jobs.get(lab.store.db, job.id)
    assert found is not None and "device 'local_cpu' was last seen 61 s ago" in (
        found.message or "")
    assert f"job:{job.id}" in lab.published
    assert lab.measure(0).state == "queued"


def test_a_job_that_was_leased_in_time_may_wait_again(lab: Laboratory, agent: AgentRow) -> None:
    job = lab.measure(0, queue_s=60.0)
    lab.leased(agent)
    lab.clock.advance(31.0)
    lab.coordinator.tick()
    assert state_of(lab, job) == ("queued", None)
    lab.clock.advance(100.0)
    lab.coordinator.tick()
    assert state_of(lab, job) == ("queued", None)


@pytest.mark.parametrize(("first", "second", "ends"), [
    (60.0, 10.0, 60.0), (10.0, 60.0, 60.0), (60.0, None, None), (None, 60.0, None)])
def test_the_most_patient_counts(
    lab: Laboratory, first: float | None, second: float | None, ends: float | None
) -> None:
    lab.measure(0, queue_s=first)
    until_s = lab.measure(0, queue_s=second).queue_until_s
    assert until_s == (None if ends is None else pytest.approx(lab.clock.now_s + ends, abs=1e-3))


def test_absence_in_words(lab: Laboratory) -> None:
    now_s = lab.clock()
    assert absence(lab.store.db, "tx9", now_s) == "device 'tx9' never enrolled"
    lab.device()
    lab.coordinator.set_device_state("local_cpu", "quarantined", "smoke")
    assert absence(lab.store.db, "local_cpu", now_s) == "device 'local_cpu' is quarantined (smoke)"
