"""One-time tokens, secrets, hosts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searcher.devices.enrolment import Host, hashed, same_secret
from searcher.errors import ProtocolError
from tests.searcher_tests.dispatch.laboratory import Laboratory


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def test_a_token_works_once(lab: Laboratory) -> None:
    token, _ = lab.coordinator.roster.invite("tx2", "agent", "jetson_tx2", 60.0)
    _, secret = lab.coordinator.enrol(token, "tx2", {}, {})
    assert lab.coordinator.roster.recognised(secret) is not None
    with pytest.raises(ProtocolError, match="used already") as refused:
        lab.coordinator.enrol(token, "tx2", {}, {})
    assert refused.value.status == 403


def test_no_secret_looks_like_an_option(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter(["-one", "two", "-three", "-four", "five", "-six", "seven"])
    monkeypatch.setattr("secrets.token_urlsafe", lambda count: next(drawn))
    token, _ = lab.coordinator.roster.invite("tx2", "agent", None, 60.0)
    _, secret = lab.coordinator.enrol(token, "tx2", {}, {})
    _, standing = lab.coordinator.roster.create_token("me", "viewer", None)
    assert (token, secret, standing) == ("two", "five", "seven")


def test_a_lost_answer_may_be_asked_for_again(lab: Laboratory) -> None:
    token, _ = lab.coordinator.roster.invite("tx2", "agent", None, 60.0)
    _, lost = lab.coordinator.enrol(token, "tx2", {}, {})
    _, secret = lab.coordinator.enrol(token, "tx2", {}, {})
    assert lab.coordinator.roster.recognised(lost) is None
    assert lab.coordinator.roster.recognised(secret) is not None


def test_tokens_expire_and_belong_to_a_name(lab: Laboratory) -> None:
    token, expires_s = lab.coordinator.roster.invite("tx2", "agent", None, 60.0)
    assert expires_s == pytest.approx(lab.clock.now_s + 60.0, abs=1e-3)
    with pytest.raises(ProtocolError, match="is for 'tx2'"):
        lab.coordinator.enrol(token, "nano", {}, {})
    lab.clock.advance(61.0)
    with pytest.raises(ProtocolError, match="expired 1 s ago"):
        lab.coordinator.enrol(token, "tx2", {}, {})


@pytest.mark.parametrize("token", ["", "nonsense", "\ud800"])
def test_unknown_tokens(lab: Laboratory, token: str) -> None:
    with pytest.raises(ProtocolError, match="unknown"):
        lab.coordinator.enrol(token, "tx2", {}, {})


@pytest.mark.parametrize(("name", "role"), [("../etc", "agent"), ("", "agent"), ("x", "root")])
def test_bad_invitations(lab: Laboratory, name: str, role: str) -> None:
    with pytest.raises(ProtocolError):
        lab.coordinator.roster.invite(name, role, None, 60.0)


def test_secrets_are_kept_as_hashes(lab: Laboratory) -> None:
    token, _ = lab.coordinator.roster.invite("tx2", "agent", None, 60.0)
    _, secret = lab.coordinator.enrol(token, "tx2", {}, {})
    lab.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    content = lab.store.path.read_bytes()
    assert token.encode() not in content and secret.encode() not in content
    assert hashed(secret).encode() in content


def test_a_device_has_one_agent(lab: Laboratory) -> None:
    first, second = lab.device(), lab.device()
    assert first.id != second.id and first.pool == second.pool
    assert lab.coordinator.lease(first) is None
    lab.measure()
    assert lab.coordinator.lease(first) is None
    assert lab.coordinator.lease(second) is not None


@pytest.mark.parametrize(("fingerprint", "shared"), [
    ({"hostname": "here"}, True), ({"hostname": "there"}, False), ({}, False),
    ({"hostname": "container", "boot_id": "boot"}, True),
    ({"hostname": "here", "boot_id": "other"}, False),
])
def test_a_shared_host_is_recognised(fingerprint: dict[str, str], shared: bool) -> None:
    assert Host("here", "boot").is_shared_with(fingerprint) is shared


def test_this_host_knows_itself() -> None:
    host = Host.here()
    assert host.is_shared_with({"hostname": host.hostname, "boot_id": host.boot_id})


@given(st.text(), st.text())
def test_only_the_same_secret_is_the_same(one: str, other: str) -> None:
    assert same_secret(one, hashed(one))
    assert same_secret(one, hashed(other)) is (one == other)
