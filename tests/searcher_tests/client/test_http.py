"""The client against the app, over the real JSON."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from searcher.api.app import create_app
from searcher.client.http import CoordinatorClient, Unreachable
from searcher.client.records import FinishedJobs
from searcher.documents import parse, plain
from searcher.errors import LedgerError, ProtocolError, UserError
from searcher.ledger.rows import TrialParameters
from searcher.ledger.tables.search_state import BaselineState, SearchState
from searcher.spec.campaign import from_document
from searcher.spec.recipe import Recipe
from searcher.statistics.measured import MeasureResult
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import (
    SPEC,
    TARGET,
    Laboratory,
    build_payload,
    build_result,
    measure_payload,
    measure_result,
    recipe,
)
from tests.searcher_tests.results.test_scans import CLUSTERING

STATE = SearchState(BaselineState("b", 10, 1e-3, {"accuracy": 0.99}, {"accuracy": [0.98, 1.0]}))


class OtherHash(Recipe):
    """A recipe whose hash does not match its steps."""

    hash = "0" * 32


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


class Clients:
    """Clients of every role on one app."""

    def __init__(self, lab: Laboratory, server: LocalServer) -> None:
        self.lab, self._server = lab, server
        self.operator = self.of("operator")

    def of(self, token: str) -> CoordinatorClient:
        return CoordinatorClient("http://test", token, transport=self._server)

    def builder(self) -> CoordinatorClient:
        return self.of(self.lab.coordinator.roster.add_builder("b")[1])

    def agent(self) -> CoordinatorClient:
        token = self.operator.create_enrolment("local_cpu", profile="local_cpu").token
        _, secret = self.lab.coordinator.enrol(token, "local_cpu", {"hostname": "workbench"}, {})
        return self.of(secret)


@pytest.fixture
def clients(lab: Laboratory) -> Iterator[Clients]:
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        yield Clients(lab, server)


def test_a_candidate_from_build_to_measurement(clients: Clients) -> None:
    operator, builder, agent = clients.operator, clients.builder(), clients.agent()
    campaign = operator.create_campaign(SPEC)
    assert campaign.state == "queued" and campaign.search_states == {}
    operator.set_state("digits", "running")
    operator.save_search_state("digits", "local_cpu", STATE)
    parameters = TrialParameters({"x": 1, "y": True, "z": 0.5}, {"x": "{}"})
    trial = operator.create_trial("digits", "local_cpu", recipe(), parameters)
    assert (trial.number, trial.created, trial.state) == (0, True, "running")
    assert trial.parameters == parameters
    again = operator.create_trial("digits", "local_cpu", recipe())
    assert (again.id, again.created) == (trial.id, False)

    job = operator.submit_job("compress", "builder", build_payload(), campaign="digits")
    lease = builder.lease(0.0)
    assert lease is not None and lease.job == job.job
    assert builder.heartbeat(lease, 0.5) == "continue"
    file = clients.lab.artifact(b"model")
    builder.put_done(lease, build_result(file))
    answer = operator.finished("digits", 0, 0.0)
    assert [j.kind for j in answer.jobs] == ["compress"]
    assert (answer.jobs[0].result or {})["sha256"] == file["sha256"]
    assert operator.finished("digits", answer.seq, 0.0) == FinishedJobs((), answer.seq)
    assert builder.lease(0.0) is None

    payload = measure_payload(clients.lab.artifact(b"reference"), file)
    job = operator.submit_job("measure", "device:local_cpu", payload, campaign="digits")
    lease = agent.lease(0.0)
    assert lease is not None and agent.artifact(file["sha256"]) == b"model"
    agent.put_done(lease, measure_result(lease.payload))
    done = operator.wait_job(job.job, 0.0)
    [shown] = parse(MeasureResult, done.result).measurements
    told = operator.tell_trial(
        trial.id, "complete", values={"accuracy": 0.99}, intervals={"accuracy": [0.98, 1.0]},
        constraints={}, sha256=file["sha256"], measurement=shown.measurement,
        evaluations=[1])
    assert told.state == "complete"
    [row] = operator.trials("digits")
    assert (row.built_from, row.measured, row.parameters) == (recipe(), True, parameters)
    assert (row.values, row.reason) == ({"accuracy": 0.99}, None)
    [level] = operator.quiet_levels("local_cpu")
    assert level.level_s == 1e-4
    assert [d.name for d in operator.devices()] == ["local_cpu"]
    summary = operator.campaign("digits")
    assert summary.trials["complete"] == 1 and summary.jobs == {"done": 2}
    assert summary.search_states == {"local_cpu": STATE}
    assert [c.name for c in operator.campaigns()] == ["digits"]


def test_the_scans_of_a_campaign(clients: Clients) -> None:
    operator, builder = clients.operator, clients.builder()
    operator.create_campaign(SPEC)
    operator.set_state("digits", "running")
    assert operator.scans("digits") == {}
    job = operator.submit_job("scan", "builder", {
        "task": SPEC["task"], "strategy": "clustering", "seed": 0, "target": TARGET},
        campaign="digits")
    lease = builder.lease(0.0)
    assert lease is not None
    builder.put_done(lease, plain(CLUSTERING))
    operator.save_search_state("digits", "local_cpu", replace(
        STATE, scans={"clustering": job.job, "svd": 999}))
    assert operator.scans("digits") == {"local_cpu": [CLUSTERING]}
    with pytest.raises(UserError, match="no campaign 'other'"):
        operator.scans("other")
    with pytest.raises(UserError, match="operators and viewers"):
        builder.scans("digits")


def test_refusals_raise_the_documented_errors(clients: Clients) -> None:
    operator, builder = clients.operator, clients.builder()
    operator.create_campaign(SPEC)
    assert operator.create_campaign(SPEC).name == "digits"
    # A newer version sends more settings; their values are the defaults of the older one.
    assert operator.create_campaign(from_document(SPEC).as_dict()).name == "digits"
    with pytest.raises(ProtocolError, match="differs in seed") as conflict:
        operator.create_campaign({**SPEC, "seed": 1})
    assert conflict.value.status == 409
    for wrong in ({**SPEC, "sead": 1}, {**SPEC, "name": "../x"}, {}):
        with pytest.raises(UserError):
            operator.create_campaign(wrong)
    with pytest.raises(UserError, match="no campaign 'other'"):
        operator.campaign("other")
    with pytest.raises(UserError, match="no campaign 'other'"):
        operator.submit_job("compress", "builder", build_payload(), campaign="other")
    with pytest.raises(UserError, match="hash"):
        operator.create_trial("digits", "local_cpu", OtherHash(recipe().steps))
    with pytest.raises(UserError, match="operators"):
        builder.campaigns()
    with pytest.raises(UserError, match="unknown or was revoked"):
        clients.of("stranger").campaigns()
    operator.submit_job("compress", "builder", build_payload())
    lease = builder.lease(0.0)
    assert lease is not None
    builder.put_failed(lease, "nan_loss", "NaN")
    with pytest.raises(ProtocolError) as stale:
        builder.heartbeat(lease)
    assert stale.value.status == 409
    with pytest.raises(ProtocolError, match="cannot be sent"):
        builder.put_done(lease, {"value": float("nan")})
    with pytest.raises(ProtocolError, match="cannot be sent"):
        operator.save_search_state("digits", "d", replace(STATE, searched_s=float("inf")))


def test_an_invalid_trial_update_names_the_field(clients: Clients) -> None:
    operator = clients.operator
    operator.create_campaign(SPEC)
    trial = operator.create_trial("digits", "d", recipe())
    with pytest.raises(UserError, match="^body.values.accuracy: Input should be a valid number"):
        operator.tell_trial(trial.id, "complete", values={"accuracy": "much"})
    with pytest.raises(UserError, match="^body.colour: Extra inputs"):
        operator.tell_trial(trial.id, "complete", colour="red")


def test_an_ended_trial_does_not_run_again(clients: Clients) -> None:
    operator = clients.operator
    operator.create_campaign(SPEC)
    trial = operator.create_trial("digits", "d", recipe())
    operator.tell_trial(trial.id, "failed", reason="nan_loss", message="x" * 4000)
    with pytest.raises(ProtocolError, match="has ended"):
        operator.tell_trial(trial.id, "running")
    with pytest.raises(UserError, match="no trial"):
        operator.tell_trial(999, "complete")
    with pytest.raises(ProtocolError, match="no measurement"):
        operator.tell_trial(trial.id, "complete", measurement=999)
    [row] = operator.trials("digits", state="failed")
    assert (row.reason, row.measured) == ("nan_loss", False)


def test_a_failed_job_is_retried_only_on_request(clients: Clients) -> None:
    operator, builder = clients.operator, clients.builder()
    job = operator.submit_job("compress", "builder", build_payload())
    lease = builder.lease(0.0)
    assert lease is not None
    builder.put_failed(lease, "nan_loss", "NaN")
    assert operator.submit_job("compress", "builder", build_payload()).state == "failed"
    again = operator.submit_job("compress", "builder", build_payload(), retry=True)
    assert (again.job, again.state) == (job.job, "queued")


@pytest.mark.parametrize("payload", [
    {}, {"task": "x"}, {**build_payload(), "recipe": [{}]}, {**build_payload(), "seed": -1},
    {**build_payload(), "recipe": [{"strategy": "svd", "rank": [1]}]},
])
def test_payloads_are_checked_at_submission(clients: Clients, payload: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        clients.operator.submit_job("compress", "builder", payload)


def test_pools_and_kinds_are_checked_at_submission(clients: Clients) -> None:
    for kind, pool in (("shell", "builder"), ("measure", "builder"), ("compress", "device:x"),
                       ("compress", "device:../x"), ("compress", "nowhere")):
        with pytest.raises(UserError):
            clients.operator.submit_job(kind, pool, build_payload())


class Flaky:
    """A transport with a list of failures, after which it answers."""

    def __init__(self, failures: list[Exception | int]) -> None:
        self.failures = failures
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, int):
                return httpx.Response(failure, json={"error": f"failure {failure}"})
            raise failure
        return httpx.Response(200, json=[])


def client_of(flaky: Flaky, slept: list[float]) -> CoordinatorClient:
    now_s = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now_s[0] += seconds

    return CoordinatorClient(
        "http://test", "t", transport=httpx.MockTransport(flaky), sleep=sleep,
        clock=lambda: now_s[0], retry_for_s=5.0)


def test_lost_connections_are_retried_with_increasing_pauses() -> None:
    slept: list[float] = []
    flaky = Flaky([httpx.ConnectError("refused"), httpx.ReadError("reset"), 503, 507])
    assert client_of(flaky, slept).campaigns() == []
    assert flaky.requests == 5 and slept == [0.05, 0.1, 0.2, 0.4]


def test_retries_end_after_retry_for_s() -> None:
    slept: list[float] = []
    with pytest.raises(Unreachable, match="does not answer.*Is it running"):
        client_of(Flaky([httpx.ConnectError("refused")] * 99), slept).campaigns()
    assert sum(slept) <= 5.0
    with pytest.raises(LedgerError, match="failure 507"):
        client_of(Flaky([507] * 99), []).campaigns()
    with pytest.raises(ProtocolError, match="failure 418"):
        client_of(Flaky([418]), []).campaigns()


def test_a_campaign_and_its_priority(clients: Clients) -> None:
    operator = clients.operator
    assert operator.create_campaign(SPEC).priority == 0
    assert operator.create_campaign(SPEC, 4).priority == 4
    assert operator.create_campaign(SPEC).priority == 4
    assert operator.set_priority("digits", -2).priority == -2
    for wrong in (1001, -1001):
        with pytest.raises(UserError):
            operator.set_priority("digits", wrong)
    with pytest.raises(UserError, match="no campaign"):
        operator.set_priority("other", 1)
    with pytest.raises(UserError, match="operators"):
        clients.builder().set_priority("digits", 1)


def test_a_state_that_cannot_follow_is_a_conflict(clients: Clients) -> None:
    operator = clients.operator
    operator.create_campaign(SPEC)
    operator.set_state("digits", "paused")
    with pytest.raises(ProtocolError, match="is paused") as refused:
        operator.set_state("digits", "running")
    assert refused.value.status == 409
    with pytest.raises(ProtocolError, match="is paused") as refused:
        operator.save_search_state("digits", "local_cpu", STATE)
    assert refused.value.status == 409
    assert operator.campaign("digits").search_states == {}
    assert operator.set_state("digits", "queued").state == "queued"


def test_trials_are_read_in_pages(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = clients.operator
    operator.create_campaign(SPEC)
    made = [operator.create_trial("digits", "local_cpu", recipe(n)).id for n in range(5)]
    for at_once in (1, 2, 5, 6):
        monkeypatch.setattr("searcher.client.http.TRIALS_AT_ONCE", at_once)
        assert [row.id for row in operator.trials("digits")] == made
