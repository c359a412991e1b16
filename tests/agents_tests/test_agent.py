"""The agent against a coordinator on loopback, with real children of the fake runtime."""

import os
import threading

import pytest

from agents.agent import Agent
from agents.coordinator.heartbeat import HeartbeatSender
from agents.coordinator.http import Backoff, HttpClient
from agents.coordinator.settings import AgentError, AgentSettings
from agents.measurement.child_process import ProcessChild
from agents.platform.sysfs import SystemTree
from agents.protocol import PROTOCOL_VERSION, Lease, MeasureResult, decode
from tests.agents_tests.fakes import fake_model, payload_of

REFERENCE = fake_model(latency_s=1e-4)
GOOD = fake_model(latency_s=2e-5)
CAPABLE = {"kinds": ["measure"], "runtimes": {"fake": {"fake": "1"}}, "meters": {"memory": "ok"}}


def agent_of(coordinator, tmp_path, start_child=ProcessChild, **settings):
    defaults = {"coordinator": coordinator.url, "name": "desk", "spool": str(tmp_path),
                "token": "token-1", "once": True, "runtimes": ("fake",)}
    return Agent(AgentSettings(**dict(defaults, **settings)), lambda: CAPABLE, start_child,
                 SystemTree(str(tmp_path)), backoff=Backoff(0.001, 0.01))


def only_result(coordinator):
    assert len(coordinator.results) == 1
    return list(coordinator.results.values())[0]


def test_one_job_from_enrolment_to_result(coordinator, tmp_path):
    coordinator.add([REFERENCE, GOOD], job=5, fence=9)
    assert agent_of(coordinator, tmp_path).run() == 1
    assert list(coordinator.results) == ["/v1/results/5/1?fence=9"]
    envelope = only_result(coordinator)
    assert envelope["state"] == "done"
    result = decode(MeasureResult, envelope["result"])
    assert [one.verdict for one in result.measurements] == ["valid"]
    assert result.environment["identity"]["cores"] >= 1
    assert result.environment["runtime"]["fake"] == "1" and len(result.environment["key"]) == 64
    assert coordinator.paths()[:2] == ["/v1/agents", "/v1/lease"]


def test_enrolling_happens_once(coordinator, tmp_path):
    for job in (1, 2):
        coordinator.add([REFERENCE, GOOD], job=job)
        agent_of(coordinator, tmp_path, token=None if job == 2 else "token-1").run()
    assert coordinator.paths().count("/v1/agents") == 1 and len(coordinator.results) == 2


def test_an_unknown_secret_is_exchanged_with_a_new_token(coordinator, tmp_path):
    coordinator.add([REFERENCE])
    agent_of(coordinator, tmp_path).run()
    coordinator.secret = None
    coordinator.add([REFERENCE], job=2)
    agent_of(coordinator, tmp_path, token="token-2").run()
    assert len(coordinator.results) == 2
    coordinator.secret = None
    with pytest.raises(AgentError, match="enrol it again with --token"):
        agent_of(coordinator, tmp_path, token=None).run()


def test_a_missing_or_used_token_is_reported_with_the_remedy(coordinator, tmp_path):
    with pytest.raises(AgentError, match="fleetfront device enrol desk"):
        agent_of(coordinator, tmp_path, token=None).run()
    with pytest.raises(AgentError, match="the token is spent"):
        agent_of(coordinator, tmp_path, token="wrong").run()


@pytest.mark.parametrize("server", [PROTOCOL_VERSION + 2, PROTOCOL_VERSION + 9])
def test_another_version_ends_it_with_both_versions_and_the_remedy(coordinator, tmp_path, server):
    coordinator.protocol = server
    words = "protocol {}; this agent: protocol {}, .*{}/agent.pyz".format(
        server, PROTOCOL_VERSION, coordinator.url)
    with pytest.raises(AgentError, match=words):
        agent_of(coordinator, tmp_path).run()
    assert coordinator.tokens == {"token-1", "token-2"}
    coordinator.protocol = PROTOCOL_VERSION
    agent = agent_of(coordinator, tmp_path)
    coordinator.add([REFERENCE])
    agent.run()
    coordinator.protocol = server
    with pytest.raises(AgentError, match=words):
        agent_of(coordinator, tmp_path).run()


def test_a_coordinator_that_is_one_version_ahead_serves_it(coordinator, tmp_path):
    coordinator.protocol = PROTOCOL_VERSION + 1
    coordinator.add([REFERENCE])
    assert agent_of(coordinator, tmp_path).run() == 1


def test_an_unavailable_coordinator_is_retried(coordinator, tmp_path):
    coordinator.statuses = [503, 500]
    coordinator.drop = 2
    coordinator.add([REFERENCE, GOOD])
    agent_of(coordinator, tmp_path).run()
    assert only_result(coordinator)["state"] == "done"


class Recorder:
    """Takes the place of the child that is started ahead."""

    def __init__(self):
        self.calls = []

    def ensure_waiting(self):
        self.calls.append("ready")

    def close(self):
        self.calls.append("close")


def test_a_child_waits_between_jobs_and_is_ended_at_the_end(coordinator, tmp_path):
    coordinator.add([REFERENCE, GOOD])
    agent = agent_of(coordinator, tmp_path)
    agent._spare = Recorder()
    agent.run()
    assert agent._spare.calls == ["ready", "close"]


def test_no_child_waits_while_the_coordinator_is_unavailable(coordinator, tmp_path):
    coordinator.add([REFERENCE, GOOD])
    agent = agent_of(coordinator, tmp_path)
    agent._spare = Recorder()
    coordinator.drop = 1
    agent.run()
    assert agent._spare.calls == ["close", "ready", "close"]


def test_a_result_waits_for_an_unavailable_coordinator(coordinator, tmp_path):
    coordinator.add([REFERENCE, GOOD])
    agent = agent_of(coordinator, tmp_path)

    def away_after_measuring(runtime, request):
        coordinator.drop = 3
        agent.finish.set()
        return ProcessChild(runtime, request)

    agent._start_child = away_after_measuring
    agent.run()
    assert coordinator.results == {}
    coordinator.drop = 0
    coordinator.add([REFERENCE], job=2)
    agent_of(coordinator, tmp_path).run()
    assert sorted(coordinator.results) == ["/v1/results/1/1?fence=1", "/v1/results/2/1?fence=1"]


def test_a_result_that_cannot_be_stored_is_sent_at_once(coordinator, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("agents.coordinator.spool.ResultSpool.put", full)
    coordinator.add([REFERENCE, GOOD])
    agent_of(coordinator, tmp_path).run()
    assert only_result(coordinator)["state"] == "done"


@pytest.mark.parametrize("change, reason, text", [
    ({"runtime": "onnxruntime"}, "runtime", "it has fake"),
    ({"plan": {}}, "payload", "MeasurePayload.plan.name is missing"),
    ({"reference": {"sha256": "0" * 64, "size_bytes": 1}}, "artifact", "no such artifact"),
])
def test_a_job_that_cannot_run_is_refused_with_the_reason(
        coordinator, tmp_path, change, reason, text):
    coordinator.add([REFERENCE, GOOD], payload=dict(payload_of([REFERENCE, GOOD]), **change))
    agent_of(coordinator, tmp_path).run()
    envelope = only_result(coordinator)
    assert envelope["state"] == "failed" and envelope["result"]["reason"] == reason
    assert text in envelope["result"]["message"]


def test_an_unknown_kind_is_refused(coordinator, tmp_path):
    coordinator.add([REFERENCE])
    coordinator.leases[0]["kind"] = "of_a_newer_coordinator"
    agent_of(coordinator, tmp_path).run()
    assert only_result(coordinator)["result"]["reason"] == "kind"


def test_a_defect_of_the_agent_does_not_stop_it(coordinator, tmp_path):
    def broken(runtime, request):
        raise KeyError("defect")

    coordinator.add([REFERENCE])
    agent_of(coordinator, tmp_path, broken).run()
    assert only_result(coordinator)["result"] == {"reason": "defect",
                                                  "message": "KeyError: 'defect'"}


def test_a_cancelled_job_ends_at_once_and_says_so(coordinator, tmp_path):
    coordinator.verdict = "cancel"
    coordinator.add([REFERENCE, fake_model(hang={"at": "open"})], ttl_s=0.2, max_s=100.0)
    agent_of(coordinator, tmp_path).run()
    assert only_result(coordinator)["result"]["reason"] == "cancelled"


def test_a_job_with_an_expired_lease_ends_at_once_and_sends_nothing(coordinator, tmp_path):
    coordinator.verdict = "stale"
    coordinator.add([REFERENCE, fake_model(hang={"at": "open"})], ttl_s=0.2, max_s=100.0)
    agent_of(coordinator, tmp_path).run()
    assert coordinator.heartbeats and coordinator.results == {}


def test_a_job_longer_than_its_deadline_fails(coordinator, tmp_path):
    coordinator.add([REFERENCE, fake_model(hang={"at": "open"})], deadline_s=0.3, max_s=100.0)
    agent_of(coordinator, tmp_path).run()
    assert only_result(coordinator)["result"]["reason"] == "deadline"


def test_heartbeats_go_on_while_the_job_runs(coordinator, tmp_path):
    coordinator.add([REFERENCE, fake_model(hang={"at": "open"})], ttl_s=0.1, max_s=100.0)
    agent = agent_of(coordinator, tmp_path)
    thread = threading.Thread(target=agent.run)
    thread.start()
    coordinator.wait_for(lambda: len(coordinator.heartbeats) >= 3)
    agent.finish.set()
    agent.abandon.set()
    thread.join(60)
    assert not thread.is_alive() and coordinator.results == {}
    assert dict(coordinator.heartbeats[0], phase="") == {
        "job": 1, "fence": 1, "progress": 0.0, "phase": ""}


def test_an_unavailable_coordinator_does_not_stop_heartbeats(coordinator):
    coordinator.secret = "s"
    heart = HeartbeatSender(HttpClient(coordinator.url, "s"),
                            Lease(1, "measure", 1, 1, 10.0, 60.0, {}))
    coordinator.statuses = [503]
    heart.send()
    coordinator.drop = 2
    heart.send()
    assert heart.stopped is None and coordinator.drop == 0
    heart.send()
    heart.stop()
    assert heart.stopped is None and len(coordinator.heartbeats) == 1


def test_finish_ends_a_long_poll(coordinator, tmp_path):
    agent = agent_of(coordinator, tmp_path)
    thread = threading.Thread(target=agent.run)
    thread.start()
    coordinator.wait_for(lambda: "/v1/lease" in coordinator.paths())
    agent.finish.set()
    agent.wake()
    thread.join(60)
    assert not thread.is_alive()


def test_an_interrupted_download_continues(coordinator, tmp_path):
    coordinator.cut_after = 10
    coordinator.add([REFERENCE, GOOD])
    agent_of(coordinator, tmp_path).run()
    assert only_result(coordinator)["state"] == "done"
    assert len(os.listdir(str(tmp_path / "artifacts"))) == 2


def test_a_throttled_device_has_no_valid_measurement(coordinator, tmp_path):
    count = tmp_path / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    count.parent.mkdir(parents=True)
    count.write_text("1\n")

    def throttling(runtime, request):
        count.write_text("2\n")
        return ProcessChild(runtime, request)

    coordinator.add([REFERENCE, GOOD])
    agent_of(coordinator, tmp_path, throttling).run()
    one = only_result(coordinator)["result"]["measurements"][0]
    assert (one["verdict"], one["reasons"]) == ("invalid", ["throttled"])
