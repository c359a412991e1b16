"""The agent replaces its own file: real files, real processes, a coordinator on loopback."""

import hashlib
import os
import signal
import stat

import pytest

from agents.coordinator import update
from agents.coordinator.http import CoordinatorUnavailable, HttpClient
from agents.coordinator.update import AgentFile, Updated, UpdateFailed
from agents.protocol import PROTOCOL_VERSION
from tests.agents_tests.fakes import WAIT_S, built_agent, fake_model

REFERENCE = fake_model(latency_s=1e-4)
MODE = 0o750


@pytest.fixture
def old(tmp_path):
    """The file on the device."""
    path = tmp_path / "device" / "agent.pyz"
    path.parent.mkdir()
    path.write_bytes(built_agent(tmp_path, note="old"))
    path.chmod(MODE)
    return path


def words_for(coordinator, tmp_path, *more):
    return ["--coordinator", coordinator.url, "--token", "token-1", "--name", "desk", "--runtime",
            "fake", "--spool", str(tmp_path / "spool"), *more]


def asked_for_the_file(coordinator):
    return coordinator.paths().count("/agent.pyz")


def leases(coordinator):
    return coordinator.paths().count("/v1/lease")


def ended(process):
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=WAIT_S)
    return process.returncode, output.decode()


# -- whole agents ---------------------------------------------------------------------------


def test_it_updates_itself_between_jobs(coordinator, tmp_path, old, started):
    new = built_agent(tmp_path, note="new")
    coordinator.offer(new)
    coordinator.add([REFERENCE], job=1)
    coordinator.add([REFERENCE], job=2)
    process = started(str(old), *words_for(coordinator, tmp_path), cwd=str(tmp_path))
    coordinator.wait_for(lambda: len(coordinator.results) == 2)
    coordinator.wait_for(lambda: coordinator.paths()[-1] == "/v1/lease")
    assert process.poll() is None
    assert old.read_bytes() == new and stat.S_IMODE(old.stat().st_mode) == MODE
    assert os.listdir(str(old.parent)) == ["agent.pyz"]
    code, said = ended(process)
    assert code == 0 and said.count("updated from sha256") == 1, said
    paths = coordinator.paths()
    # The job at hand was finished and sent first, and the secret was enough to go on.
    assert paths.index("/v1/results/1/1?fence=1") < paths.index("/agent.pyz") < paths.index(
        "/v1/results/2/1?fence=1")
    assert asked_for_the_file(coordinator) == 1 and paths.count("/v1/agents") == 1


def test_a_version_that_is_refused_is_replaced(coordinator, tmp_path, old, started):
    new = built_agent(tmp_path, version=PROTOCOL_VERSION + 2)
    coordinator.protocol = PROTOCOL_VERSION + 2
    coordinator.offer(new)
    coordinator.add([REFERENCE])
    process = started(str(old), *words_for(coordinator, tmp_path, "--once"), cwd=str(tmp_path))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0 and len(coordinator.results) == 1, output
    assert old.read_bytes() == new


def test_a_newer_agent_goes_back_to_its_coordinators_version(coordinator, tmp_path, started):
    newer = tmp_path / "agent.pyz"
    newer.write_bytes(built_agent(tmp_path, version=PROTOCOL_VERSION + 5))
    coordinator.offer(built_agent(tmp_path))
    coordinator.add([REFERENCE])
    process = started(str(newer), *words_for(coordinator, tmp_path, "--once"), cwd=str(tmp_path))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0 and len(coordinator.results) == 1, output


def test_incompatible_versions_after_the_update_end_it_with_the_remedy(
        coordinator, tmp_path, old, started):
    coordinator.protocol = PROTOCOL_VERSION + 4
    coordinator.offer(built_agent(tmp_path, version=PROTOCOL_VERSION + 1))
    process = started(str(old), *words_for(coordinator, tmp_path), cwd=str(tmp_path))
    output, _ = process.communicate(timeout=WAIT_S)
    last = output.decode().splitlines()[-1]
    assert process.returncode == 1 and asked_for_the_file(coordinator) == 1
    assert "Coordinator: protocol {}; this agent: protocol {}".format(
        PROTOCOL_VERSION + 4, PROTOCOL_VERSION + 1) in last
    assert "Download {}/agent.pyz".format(coordinator.url) in last
    assert coordinator.tokens == {"token-1", "token-2"}


def test_a_file_that_does_not_start_replaces_nothing_and_is_not_retried(
        coordinator, tmp_path, old, started):
    before = old.read_bytes()
    coordinator.offer(b"this is no program")
    process = started(str(old), *words_for(coordinator, tmp_path), cwd=str(tmp_path))
    coordinator.wait_for(lambda: asked_for_the_file(coordinator))
    asked = leases(coordinator)
    coordinator.wait_for(lambda: leases(coordinator) > asked + 2)
    assert asked_for_the_file(coordinator) == 1 and old.read_bytes() == before
    good = built_agent(tmp_path, note="good")
    coordinator.offer(good)
    coordinator.wait_for(lambda: asked_for_the_file(coordinator) == 2)
    asked = leases(coordinator)
    coordinator.wait_for(lambda: leases(coordinator) > asked)
    code, said = ended(process)
    assert code == 0 and said.count("does not start with") == 1, said
    assert old.read_bytes() == good


def test_a_signal_during_the_download_ends_it_with_the_old_file(
        coordinator, tmp_path, old, started):
    before = old.read_bytes()
    coordinator.offer(built_agent(tmp_path, note="new"))
    coordinator.on_agent_file = lambda: process.send_signal(signal.SIGTERM)
    process = started(str(old), *words_for(coordinator, tmp_path), cwd=str(tmp_path))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    assert old.read_bytes() == before and os.listdir(str(old.parent)) == ["agent.pyz"]


def test_a_signal_during_the_check_ends_it_with_the_new_file(
        coordinator, tmp_path, old, started):
    new = built_agent(tmp_path, note="\n".join((
        "new", "import os, signal, sys", "if '--version' in sys.argv:",
        "    os.kill(os.getppid(), signal.SIGTERM)")))
    coordinator.offer(new)
    process = started(str(old), *words_for(coordinator, tmp_path), cwd=str(tmp_path))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    assert old.read_bytes() == new and leases(coordinator) == 1


def test_an_agent_in_a_folder_is_not_updated(coordinator, tmp_path, started):
    coordinator.offer(built_agent(tmp_path, note="new"))
    process = started("-m", "agents", *words_for(coordinator, tmp_path))
    coordinator.wait_for(lambda: leases(coordinator) > 2)
    assert ended(process)[0] == 0 and asked_for_the_file(coordinator) == 0


# -- the file alone -------------------------------------------------------------------------


@pytest.fixture
def link(coordinator):
    link = HttpClient(coordinator.url)
    yield link
    link.close()


def test_a_file_with_another_digest_is_refused(coordinator, tmp_path, old, link):
    before = old.read_bytes()
    coordinator.offer(built_agent(tmp_path, note="new"))
    own, promised = AgentFile(str(old)), "0" * 64
    assert own.differs(promised)
    with pytest.raises(UpdateFailed, match="offers the agent.pyz 0000"):
        own.update(promised, link)
    assert old.read_bytes() == before and not own.differs(promised)
    assert os.listdir(str(old.parent)) == ["agent.pyz"]


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(coordinator, tmp_path, old, link):
    coordinator.offer(built_agent(tmp_path, note="new"))
    (old.parent / "agent.pyz.new").mkdir()  # stands for whatever keeps the owner from writing
    own = AgentFile(str(old))
    with pytest.raises(UpdateFailed, match="put the coordinator's /agent.pyz there by hand"):
        own.update(coordinator.agent_sha256, link)
    assert not own.differs(coordinator.agent_sha256)
    assert own.differs("1" * 64)


def test_a_read_only_file_is_not_replaced(coordinator, tmp_path, old, link, monkeypatch):
    coordinator.offer(built_agent(tmp_path, note="new"))
    monkeypatch.setattr(update.os, "access", lambda path, how: False)  # the tests may run as root
    with pytest.raises(UpdateFailed, match="it is read-only"):
        AgentFile(str(old)).update(coordinator.agent_sha256, link)
    assert asked_for_the_file(coordinator) == 0


def test_an_unavailable_coordinator_is_retried(coordinator, tmp_path, old, link):
    coordinator.offer(built_agent(tmp_path, note="new"))
    coordinator.statuses = [503]
    own = AgentFile(str(old))
    with pytest.raises(CoordinatorUnavailable):
        own.update(coordinator.agent_sha256, link)
    assert own.differs(coordinator.agent_sha256)
    with pytest.raises(Updated):
        own.update(coordinator.agent_sha256, link)
    assert hashlib.sha256(old.read_bytes()).hexdigest() == coordinator.agent_sha256


def test_a_file_replaced_by_another_agent_is_only_started(coordinator, tmp_path, old, link):
    own = AgentFile(str(old))
    new = built_agent(tmp_path, note="new")
    coordinator.offer(new)
    old.write_bytes(new)
    with pytest.raises(Updated):
        own.update(coordinator.agent_sha256, link)
    assert asked_for_the_file(coordinator) == 0


def test_a_link_to_the_file_stays_a_link(coordinator, tmp_path, old, link):
    new = built_agent(tmp_path, note="new")
    coordinator.offer(new)
    (tmp_path / "agent.pyz").symlink_to(str(old))
    with pytest.raises(Updated):
        AgentFile(str(tmp_path / "agent.pyz")).update(coordinator.agent_sha256, link)
    assert (tmp_path / "agent.pyz").is_symlink() and old.read_bytes() == new


@pytest.mark.parametrize("offered", [None, "", "abc", "x" * 64, "../../etc/passwd"])
def test_an_invalid_digest_is_no_offer(old, offered):
    assert not AgentFile(str(old)).differs(offered)


def test_the_same_digest_is_no_update(old):
    own = AgentFile(str(old))
    assert not own.differs(own.sha256) and not AgentFile(None).differs("0" * 64)
