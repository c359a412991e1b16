"""The agent as a process, from the folder and from one file."""

import io
import os
import shutil
import signal
import subprocess
import sys
import zipapp
from typing import Any

import pytest

from agents import doctor
from agents.__main__ import main
from agents.children import archive_of
from tests.agents_tests.fakes import WAIT_S, fake_model

REFERENCE = fake_model(latency_s=1e-4)
GOOD = fake_model(latency_s=2e-5)
HANGING = fake_model(hang={"at": "open"})
ROOT = archive_of(doctor.__file__)


@pytest.fixture
def started():
    """Starts agents and ends them."""
    processes: Any = []

    def start(*words, **changes):
        processes.append(subprocess.Popen(
            [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=changes.pop("cwd", ROOT), **changes))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


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
    folder = tmp_path / "build"
    shutil.copytree(os.path.join(ROOT, "agents"), str(folder / "agents"))
    zipapp.create_archive(str(folder), str(tmp_path / "agent.pyz"), main="agents.__main__:main")
    shutil.rmtree(str(folder))
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


def test_a_second_sigterm_leaves_the_job(coordinator, tmp_path, started):
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


def test_it_ends_with_its_parent_and_takes_its_children_along(coordinator, tmp_path, started):
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
    (["--coordinator", "http://127.0.0.1:1", "--token-file", "/nonexistent"], "No such file"),
])
def test_wrong_use_is_told_in_one_line(tmp_path, started, words, text):
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


def test_the_doctor_names_the_mend(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "runtime_versions",
                        lambda *_: {"problem": "install it, `pip install onnxruntime`"})
    out = io.StringIO()
    assert doctor.report(sys.executable, out) == 1
    with pytest.raises(SystemExit):
        main(["--doctor"])
    assert "MISSING: install it" in out.getvalue() and "memory meter   ok" in out.getvalue()
    monkeypatch.setattr(doctor, "runtime_versions", lambda *_: {
        "onnxruntime": "1.0", "providers": ["CPUExecutionProvider"]})
    assert main(["--doctor"]) == 0
    assert "1.0, CPUExecutionProvider" in capsys.readouterr().out


