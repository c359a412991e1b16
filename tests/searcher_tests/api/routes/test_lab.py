"""Devices, tokens, enrolments and the agent's file over HTTP."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from searcher.api.app import create_app
from searcher.client.http import CoordinatorClient
from searcher.errors import ProtocolError, UserError
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import Laboratory, measure_payload


class Lab:
    """A lab and its app; ``operator`` is a client with the token of coordinator.json."""

    def __init__(self, lab: Laboratory, server: LocalServer) -> None:
        self.lab, self.server = lab, server
        self.operator = self.client("start")
        self.http = httpx.Client(base_url="http://test", transport=server)

    def client(self, token: str) -> CoordinatorClient:
        return CoordinatorClient("http://test", token, transport=self.server)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    laboratory = Laboratory.open(tmp_path)
    with LocalServer(create_app(laboratory.coordinator, "start")) as server:
        yield Lab(laboratory, server)
    laboratory.store.close()


def test_the_agents_file_and_its_digest(lab: Lab) -> None:
    answer = lab.http.get("/agent.pyz")
    digest = hashlib.sha256(answer.content).hexdigest()
    assert answer.content[:2] == b"PK"
    assert answer.headers["x-agent-sha256"] == digest == lab.server.app.state.agent_sha256
    assert lab.operator.create_enrolment("tx2").agent_sha256 == digest


def test_an_agent_of_another_version_gets_the_digest_to_download(lab: Lab) -> None:
    answer = lab.http.post("/v1/agents", json={"protocol": 99})
    assert answer.status_code == 426
    assert answer.headers["x-agent-sha256"] == lab.server.app.state.agent_sha256


def test_an_enrolment_has_the_address_and_the_fingerprint(lab: Lab) -> None:
    made = lab.operator.create_enrolment("tx2")
    assert (made.fingerprint, made.advertised) == (None, None)
    state = lab.server.app.state
    state.fingerprint, state.advertised = "sha256:" + "0" * 64, "https://lab:8700"
    made = lab.operator.create_enrolment("tx2")
    assert (made.fingerprint, made.advertised) == ("sha256:" + "0" * 64, "https://lab:8700")


def test_devices_show_what_they_work_on(lab: Lab) -> None:
    agent = lab.lab.device(hostname="elsewhere")
    job = lab.lab.measure()
    running = lab.lab.leased(agent)
    [shown] = lab.operator.devices()
    assert (shown.name, shown.state, shown.job) == ("local_cpu", "active", job.id)
    lab.lab.clock.advance(20.0)
    lab.lab.coordinator.heartbeat(agent, job.id, running.fence or 0, 0.5)
    lab.lab.coordinator.tick()
    [shown] = lab.operator.devices()
    assert shown.last_seen_s == pytest.approx(lab.lab.clock.now_s, abs=1.0)
    drained = lab.operator.set_device_state("local_cpu", "draining")
    assert (drained.state, drained.job) == ("draining", job.id)
    lab.lab.done(agent, running)
    [shown] = lab.operator.devices()
    assert (shown.state, shown.job) == ("drained", None)
    assert lab.operator.set_device_state("local_cpu", "active").state == "active"


def test_quarantine_with_a_reason_and_removal(lab: Lab) -> None:
    lab.lab.device(hostname="elsewhere")
    assert lab.operator.set_device_state("local_cpu", "quarantined").reason == (
        "by an operator")
    shown = lab.operator.set_device_state("local_cpu", "quarantined", "smells")
    assert (shown.state, shown.reason) == ("quarantined", "smells")
    assert lab.operator.set_device_state("local_cpu", "removed").state == "removed"
    with pytest.raises(ProtocolError, match="cannot become active") as refused:
        lab.operator.set_device_state("local_cpu", "active")
    assert refused.value.status == 409
    with pytest.raises(UserError, match="no device 'tx9'"):
        lab.operator.set_device_state("tx9", "active")


def test_a_job_may_be_impatient(lab: Lab) -> None:
    file = lab.lab.artifact(b"model")
    job = lab.operator.submit_job(
        "measure", "device:away", measure_payload(file, file), queue_s=30.0)
    lab.lab.clock.advance(31.0)
    lab.lab.coordinator.tick()
    ended = lab.operator.wait_job(job.job)
    assert (ended.state, ended.reason) == ("failed", "queue_timeout")
    assert "'away' never enrolled" in ended.message
    with pytest.raises(UserError, match="queue_s"):
        lab.operator.submit_job("measure", "device:away", measure_payload(file, file), queue_s=0.0)


def test_tokens_from_creation_to_revocation(lab: Lab) -> None:
    made = lab.operator.create_token("grafana", "viewer")
    assert not hasattr(made, "secret_hash")
    viewer = lab.client(made.token)
    assert viewer.devices() == [] and viewer.campaigns() == []
    with pytest.raises(UserError, match="not for the viewer role"):
        viewer.create_enrolment("tx2")
    [shown] = lab.operator.tokens()
    assert (shown.id, shown.state, shown.role) == (made.id, "active", "viewer")
    assert made.token not in str(shown)
    assert lab.operator.revoke_token(made.id).revoked_s is not None
    with pytest.raises(UserError, match="unknown or was revoked"):
        viewer.devices()
    assert lab.operator.tokens()[0].state == "revoked"


def test_an_operators_token_has_all_permissions_until_it_expires(lab: Lab) -> None:
    made = lab.operator.create_token("anna", "operator", 60.0)
    anna = lab.client(made.token)
    assert anna.create_enrolment("tx2").name == "tx2"
    lab.lab.clock.advance(61.0)
    with pytest.raises(UserError, match="expired"):
        anna.devices()


@pytest.mark.parametrize("body", [
    {}, {"name": "a"}, {"name": "a", "role": "agent"}, {"name": "a b", "role": "viewer"},
    {"name": "a", "role": "viewer", "ttl_s": 0}, {"name": "a", "role": "viewer", "x": 1}])
def test_odd_tokens_are_refused(lab: Lab, body: dict[str, object]) -> None:
    answer = lab.http.post("/v1/tokens", json=body, headers={"Authorization": "Bearer start"})
    assert answer.status_code == 400 and answer.json()["error"]
