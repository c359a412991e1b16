"""The agent as a process, from the folder and from one file."""

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys

import pytest

from agents.__main__ import _parser
from tests.agents_tests.fakes import ROOT, WAIT_S, built_agent, fake_model

REFERENCE = fake_model(latency_s=1e-4)
GOOD = fake_model(latency_s=2e-5)
HANGING = fake_model(hang={"at": "open"})


def words_for(coordinator, tmp_path, *more):
    return ["--coordinator", coordinator.url, "--token", "token-1", "--name", "desk", "--runtime",
            "fake", "--spool", str(tmp_path / "spool"), *more]


def test_the_folder_does_one_job(coordinator, tmp_path, started):
    coordinator.add([REFERENCE, GOOD])
    process = started("-m", "agents", *words_for(coordinator, tmp_path, "--once"))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    assert list(coordinator.results) == ["/v1/results/1/1?fence=1"]


def test_one_file_does_one_job_anywhere(coordinator, tmp_path, started):
    (tmp_path / "agent.pyz").write_bytes(built_agent(tmp_path))
    coordinator.add([REFERENCE, GOOD, fake_model(crash={"at": 3, "how": "segv"})])
    process = started(str(tmp_path / "agent.pyz"),
                      *words_for(coordinator, tmp_path, "--once"), cwd=str(tmp_path))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    measurements = coordinator.results["/v1/results/1/1?fence=1"]["result"]["measurements"]
    assert [one["verdict"] for one in measurements] == ["valid", "failed"]
    assert started(str(tmp_path / "agent.pyz"), "--runtime", "fake").wait(WAIT_S) == 1


def test_a_token_file_is_read(coordinator, tmp_path, started):
    (tmp_path / "token").write_text("token-2\n")
    coordinator.add([REFERENCE])
    words = words_for(coordinator, tmp_path, "--once", "--token-file", str(tmp_path / "token"))
    assert started("-m", "agents", *words).wait(WAIT_S) == 0
    assert coordinator.tokens == {"token-1"}


def test_sigterm_while_idle_ends_it(coordinator, tmp_path, started):
    process = started("-m", "agents", *words_for(coordinator, tmp_path))
    coordinator.wait_for(lambda: "/v1/lease" in coordinator.paths())
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0


def test_sigterm_finishes_the_job_and_sends_it(coordinator, tmp_path, started):
    coordinator.add([REFERENCE, GOOD])
    coordinator.cut_after = 5
    process = started("-m", "agents", *words_for(coordinator, tmp_path))
    coordinator.wait_for(lambda: any("artifacts" in path for path in coordinator.paths()))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0 and len(coordinator.results) == 1, output


def test_a_second_sigterm_abandons_the_job(coordinator, tmp_path, started):
    coordinator.add([REFERENCE, HANGING], ttl_s=0.2, max_s=100.0)
    process = started("-m", "agents", *words_for(coordinator, tmp_path, "--grace-s", "1000"))
    coordinator.wait_for(lambda: coordinator.heartbeats)
    process.send_signal(signal.SIGTERM)
    heard = len(coordinator.heartbeats)
    coordinator.wait_for(lambda: len(coordinator.heartbeats) > heard + 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0 and coordinator.results == {}


def test_the_grace_ends_a_job_that_does_not(coordinator, tmp_path, started):
    coordinator.add([REFERENCE, HANGING], ttl_s=0.2, max_s=100.0)
    process = started("-m", "agents", *words_for(coordinator, tmp_path, "--grace-s", "0.1"))
    coordinator.wait_for(lambda: coordinator.heartbeats)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0 and coordinator.results == {}


def test_it_ends_with_its_parent_and_so_do_its_children(coordinator, tmp_path, started):
    coordinator.add([REFERENCE, HANGING], ttl_s=0.2, max_s=100.0)
    words = words_for(coordinator, tmp_path)
    parent = started("-c", (
        "import os, subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'agents', '--parent-pid', str(os.getpid()),"
        " *sys.argv[1:]])\n"
        "time.sleep(1000)\n"), *words)
    coordinator.wait_for(lambda: coordinator.heartbeats)
    parent.kill()
    # The pipe closes when the last holder of it, agent and measuring child, has ended.
    parent.communicate(timeout=WAIT_S)
    assert coordinator.results == {}


@pytest.mark.parametrize("words, text", [
    ([], "--coordinator is missing"),
    (["--coordinator", "nowhere"], "must be http"),
    (["--coordinator", "https://x", "--fingerprint", "sha256:12"], "64 hexadecimal digits"),
    (["--coordinator", "http://x", "--fingerprint", "sha256:" + "a" * 64], "are for https"),
    (["--coordinator", "https://x", "--cafile", "/nonexistent"], "/nonexistent"),
    (["--coordinator", "http://x", "--runtime-python", "/nonexistent"], "is not executable"),
    (["--coordinator", "http://127.0.0.1:1", "--token-file", "/nonexistent"], "No such file"),
    (["--coordinator", "http://x", "--runtime", "nothing"],
     "--runtime nothing is unknown: give one of onnxruntime, trtexec, fake"),
])
def test_wrong_usage_is_reported_in_one_line(tmp_path, started, words, text):
    process = started("-m", "agents", "--runtime", "fake", "--spool", str(tmp_path), *words)
    output, _ = process.communicate(timeout=WAIT_S)
    lines = output.decode().splitlines()
    assert process.returncode == 1 and len(lines) == 1 and text in lines[0]


def test_two_agents_do_not_share_a_folder(coordinator, tmp_path, started):
    first = started("-m", "agents", *words_for(coordinator, tmp_path))
    coordinator.wait_for(lambda: "/v1/lease" in coordinator.paths())
    second = started("-m", "agents", *words_for(coordinator, tmp_path))
    output, _ = second.communicate(timeout=WAIT_S)
    assert second.returncode == 1 and b"Another agent" in output
    assert first.poll() is None


def test_the_version_names_protocol_and_digest(tmp_path, started):
    content = built_agent(tmp_path, version=7)
    (tmp_path / "agent.pyz").write_bytes(content)
    process = started(str(tmp_path / "agent.pyz"), "--version", cwd=str(tmp_path))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    assert "protocol 7" in output.decode()
    assert hashlib.sha256(content).hexdigest() in output.decode()
    process = started("-m", "agents", "--version")
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0 and "started from a folder" in output.decode()


def test_a_token_file_is_missed_only_before_the_first_start(coordinator, tmp_path, started):
    (tmp_path / "token").write_text("token-1")
    words = words_for(coordinator, tmp_path, "--once", "--token-file", str(tmp_path / "token"))
    for job in (1, 2):
        coordinator.add([REFERENCE], job=job)
        assert started("-m", "agents", *words).wait(WAIT_S) == 0
        (tmp_path / "token").unlink() if job == 1 else None
    assert len(coordinator.results) == 2 and coordinator.paths().count("/v1/agents") == 1


def test_an_enrolled_agent_asks_for_a_lease_before_it_starts_a_runtime(
        coordinator, tmp_path, started):
    """Importing a runtime takes seconds, and is the measuring child's affair."""
    coordinator.add([REFERENCE])
    assert started("-m", "agents", *words_for(coordinator, tmp_path, "--once")).wait(WAIT_S) == 0
    asked = len(coordinator.requests)
    no_python = tmp_path / "python"
    no_python.write_text("#!/bin/sh\nexec sleep 1000\n")
    no_python.chmod(0o700)
    words = words_for(coordinator, tmp_path, "--runtime-python", str(no_python))
    started("-m", "agents", *words)
    coordinator.wait_for(lambda: "/v1/lease" in coordinator.paths()[asked:])


def test_the_parent_loads_only_what_it_needs(coordinator, tmp_path, started):
    """The rest costs every device memory and start-up time; ssl is for https addresses."""
    coordinator.add([REFERENCE])
    assert started("-m", "agents", *words_for(coordinator, tmp_path, "--once")).wait(WAIT_S) == 0
    asked = len(coordinator.requests)
    with open(str(tmp_path / "said"), "w+b") as said:
        process = subprocess.Popen(
            [sys.executable, "-S", "-v", "-m", "agents", *words_for(coordinator, tmp_path)],
            cwd=ROOT, stderr=said)
        coordinator.wait_for(lambda: len(coordinator.requests) > asked)
        process.kill()
        process.wait()
        said.seek(0)
        text = said.read().decode()
    loaded = {line.split("'")[1] for line in text.splitlines() if line.startswith("import '")}
    assert {"agents.agent", "http.client"} <= loaded
    unwanted = {"ssl", "tempfile", "shutil", "subprocess", "ctypes", "gzip", "agents.doctor",
                "agents.jobs.execution", "agents.measurement.child_process", "agents.runtimes",
                "agents.coordinator.tls", "agents.platform.environment", "agents.child",
                "agents.meters", "agents.timing"}
    assert loaded & unwanted == set()


def test_every_option_is_documented():
    with open(os.path.join(ROOT, "docs", "agent.md"), encoding="utf-8") as stream:
        text = stream.read()
    shown = [action for action in _parser()._actions
             if action.help != argparse.SUPPRESS and action.dest != "help"]
    assert len(shown) > 10
    for action in shown:
        assert re.search("^[|][^|]*`{}[ `]".format(action.option_strings[0]), text, re.MULTILINE)
