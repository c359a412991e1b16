"""Tokens: stored as hashes, shown once, with expiry, revoked immediately."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.devices.enrolment import hashed
from searcher.errors import ProtocolError
from searcher.ledger.rows import AgentRow, TokenRow
from tests.searcher_tests.dispatch.laboratory import Laboratory


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def test_a_token_is_recognised_until_it_is_revoked(lab: Laboratory) -> None:
    people = lab.coordinator.roster
    row, secret = people.create_token("grafana", "viewer", None)
    assert people.recognised(secret) == row
    assert people.revoke_token(row.id).revoked_s is not None
    assert people.recognised(secret) is None
    first_s = people.revoke_token(row.id).revoked_s
    lab.clock.advance(5.0)
    assert people.revoke_token(row.id).revoked_s == first_s


def test_a_token_expires(lab: Laboratory) -> None:
    people = lab.coordinator.roster
    _, secret = people.create_token("intern", "operator", 60.0)
    assert people.recognised(secret) is not None
    lab.clock.advance(61.0)
    assert people.recognised(secret) is None
    assert lab.reopened().coordinator.roster.recognised(secret) is None


def test_tokens_outlive_the_process_and_that_of_the_start_does_not(lab: Laboratory) -> None:
    row, secret = lab.coordinator.roster.create_token("anna", "operator", None)
    lab.coordinator.roster.accept("of the start", "operator")
    found = lab.coordinator.roster.recognised("of the start")
    assert isinstance(found, TokenRow) and found.role == "operator"
    again = lab.reopened().coordinator.roster
    assert again.recognised(secret) == row
    assert again.recognised("of the start") is None


def test_what_the_list_says(lab: Laboratory) -> None:
    people = lab.coordinator.roster
    old, _ = people.create_token("old", "viewer", 10.0)
    gone, _ = people.create_token("gone", "viewer", None)
    kept, _ = people.create_token("kept", "operator", 1000.0)
    people.revoke_token(gone.id)
    lab.clock.advance(11.0)
    assert [(row.id, state) for row, state in people.tokens()] == [
        (kept.id, "active"), (gone.id, "revoked"), (old.id, "expired")]


def test_tokens_are_kept_as_hashes(lab: Laboratory) -> None:
    _, secret = lab.coordinator.roster.create_token("anna", "operator", None)
    lab.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    content = lab.store.path.read_bytes()
    assert secret.encode() not in content and hashed(secret).encode() in content


def test_odd_names_and_unknown_ids(lab: Laboratory) -> None:
    with pytest.raises(ProtocolError, match="must be letters"):
        lab.coordinator.roster.create_token("a b", "viewer", None)
    with pytest.raises(ProtocolError, match="no token 'nothing'") as refused:
        lab.coordinator.roster.revoke_token("nothing")
    assert refused.value.status == 404


def test_a_removed_devices_agent_is_not_recognised(lab: Laboratory) -> None:
    token, _ = lab.coordinator.roster.invite("tx2", "agent", None, 60.0)
    agent, secret = lab.coordinator.enrol(token, "tx2", {}, {})
    other = lab.builder()
    found = lab.coordinator.roster.recognised(secret)
    assert isinstance(found, AgentRow) and found.id == agent.id
    lab.coordinator.set_device_state("tx2", "removed")
    assert lab.coordinator.roster.recognised(secret) is None
    assert not lab.coordinator.roster.is_revoked(other)
    assert lab.coordinator.roster.is_revoked(found)
