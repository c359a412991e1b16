"""Heartbeats, and the order of leases on one host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.dispatch import queue
from tests.searcher_tests.dispatch.laboratory import Laboratory


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def test_a_heartbeat_extends_a_lease_in_force(lab: Laboratory) -> None:
    agent = lab.device("tx2", hostname="elsewhere")
    payload = {**lab.measure().payload, "candidates": [lab.artifact(b"x")]}
    lab.coordinator.submit("measure", agent.pool, payload)
    leased = lab.leased(agent)
    for progress in (0.5, None):
        lab.clock.advance(5.0)
        lab.coordinator.heartbeat(agent, leased.id, leased.fence or 0, progress)
    kept = queue.job_of(lab.store.db, leased.id)
    assert kept.progress == 0.5
    assert (kept.lease_expires_s or 0.0) > (leased.lease_expires_s or 0.0) + 9.9
    lab.done(agent, leased)
    ended = queue.job_of(lab.store.db, leased.id)
    assert (ended.state, ended.progress, ended.lease_expires_s) == ("done", None, None)


def test_devices_of_one_host_take_turns_within_a_window(lab: Laboratory) -> None:
    """The first device that polls measures next; the others still get their turn."""
    agents = {name: lab.device(name) for name in ("a", "b", "c")}
    for agent in agents.values():
        for number in range(2):
            payload = {**lab.measure(number).payload, "attempt": 1}
            lab.coordinator.submit("measure", agent.pool, payload)
    turns, pool = [], "device:a"
    for _ in range(6):
        agent = agents[pool.removeprefix("device:")]
        job = lab.leased(agent)
        turns.append(agent.name)
        lab.clock.advance(1.0)
        lab.published.clear()
        lab.done(agent, job)
        pool = next((one for one in lab.published if one in {a.pool for a in agents.values()}), "")
    assert turns == ["a", "b", "c", "a", "b", "c"]


def test_only_the_next_device_is_woken_within_a_window(lab: Laboratory) -> None:
    """If all devices were woken, the end of each job would cause one query per device."""
    agents = {name: lab.device(name) for name in ("a", "away", "b", "c", "drained", "idle")}
    for name, agent in agents.items():
        if name != "idle":
            lab.coordinator.submit("measure", agent.pool, lab.measure(1).payload)
    lab.coordinator.set_device_state("drained", "draining")
    lab.coordinator.submit("measure", "device:a", lab.measure(2).payload)
    lab.asleep.add("device:away")
    first = lab.leased(agents["a"])
    lab.published.clear()
    lab.done(agents["a"], first)
    devices = [topic for topic in lab.published if topic.startswith("device:")]
    assert devices == ["device:away", "device:b"]
