"""Job kind ``prepare``: stored results, and agents that support it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from searcher.errors import ProtocolError
from searcher.jobs.registry import request_of
from searcher.ledger.tables import jobs
from tests.searcher_tests.dispatch.laboratory import ENVIRONMENT, Laboratory, envelope

KINDS = ["measure", "infer", "prepare"]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def payload(lab: Laboratory, **changes: Any) -> dict[str, Any]:
    return {"model": lab.artifact(b"model"), "runtime": "trtexec",
            "options": {"batch": 1, "precision": "float16"}, **changes}


@pytest.mark.parametrize(("changes", "state"), [
    ({}, "done"), ({"prepare_s": -1.0}, "failed"), ({"kept_bytes": -1}, "failed"),
    ({"reused": "yes"}, "failed")])
def test_the_duration_is_stored(lab: Laboratory, changes: dict[str, Any], state: str) -> None:
    agent = lab.device("tx2", hostname="elsewhere")
    lab.coordinator.lease(agent, KINDS)
    lab.coordinator.submit("prepare", agent.pool, payload(lab))
    job = lab.coordinator.lease(agent, KINDS)
    assert job is not None and request_of(job).deadline_s() == 7200.0
    result = {"prepare_s": 81.5, "reused": False, "kept_bytes": 2400512,
              "environment": {**ENVIRONMENT, "runtime": {"trtexec": "8201"}}, **changes}
    lab.put(agent, job, envelope(result))
    ended = jobs.get(lab.store.db, job.id)
    assert ended is not None and ended.state == state
    if state == "done":
        assert ended.result == {
            "prepare_s": 81.5, "reused": False, "kept_bytes": 2400512,
            "environment": {"key": "e" * 64, "runtime": {"trtexec": "8201"}}}


def test_agents_without_the_kind_and_invalid_requests_are_refused(lab: Laboratory) -> None:
    agent = lab.device("tx2", hostname="elsewhere")
    with pytest.raises(ProtocolError, match="cannot do jobs of kind 'prepare'") as caught:
        lab.coordinator.submit("prepare", agent.pool, payload(lab))
    assert caught.value.status == 409
    with pytest.raises(ProtocolError, match="64 hexadecimal") as caught:
        lab.coordinator.submit("prepare", "device:new", payload(
            lab, model={"sha256": "../agent.json", "size_bytes": 1}))
    assert caught.value.status == 400
