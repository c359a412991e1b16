"""Commands for a daemon, with a real app over HTTP in this process."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.api.app import create_app
from searcher.cli import agent, options, submit
from searcher.cli.submit import follow
from searcher.client.http import CoordinatorClient
from searcher.dispatch.admission import Admission
from searcher.errors import UserError
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.cli.conftest import Run
from tests.searcher_tests.dispatch.laboratory import Laboratory

CAMPAIGN = """
name = "digits"
task = "lenet5-mnist"
[[devices]]
name = "bench-1"
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path / "lab")
    laboratory.coordinator.admission = Admission(frozenset(), enrolled_only=True)
    token, _ = laboratory.coordinator.roster.invite("bench-1", "agent", "local_cpu", 60.0)
    laboratory.coordinator.enrol(token, "bench-1", {"hostname": "elsewhere"}, {})
    yield laboratory
    laboratory.store.close()


@pytest.fixture
def client(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> Iterator[CoordinatorClient]:
    """Commands with ``--url`` speak to ``lab``'s app; one client for the tests' own questions."""
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        def connected(directory: Path, url: str | None) -> CoordinatorClient:
            return CoordinatorClient("http://test", "operator", transport=server)

        for module in ("submit", "campaigns"):
            monkeypatch.setattr(f"searcher.cli.{module}.client_of", connected)
        # No builder leases jobs here; tests/searcher_tests/local/test_submission.py has the check.
        monkeypatch.setattr("searcher.local.submission.check_task", lambda *arguments: None)
        yield connected(Path(), None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "digits.toml"
    path.write_text(CAMPAIGN)
    return path


def test_submit_pause_resume_cancel(run: Run, client: CoordinatorClient, file: Path) -> None:
    assert run("submit", file).out == "digits: queued, priority 0\n"
    assert run("submit", file, "--priority", 7).out == "digits: queued, priority 7\n"
    assert run("submit", file).out == "digits: queued, priority 7\n", "only when it is given"
    assert run("pause", "digits").out == "digits: paused\n"
    assert run("resume", "digits").out == "digits: queued\n"
    assert run("cancel", "digits").out == "digits: cancelled\n"
    refused = run("pause", "digits")
    assert refused.code == 1 and "is cancelled" in refused.err and "resume" in refused.err


def test_submitting_warns_of_a_device_that_contradicts_its_profile(
    run: Run, client: CoordinatorClient, lab: Laboratory, file: Path
) -> None:
    assert run("submit", file).err == ""
    token, _ = lab.coordinator.roster.invite("bench-1", "agent", "jetson_tx2", 60.0)
    lab.coordinator.enrol(token, "bench-1", {"machine": "x86_64"}, {})
    answer = run("submit", file)
    assert answer.out == "digits: queued, priority 0\n"
    assert answer.err.startswith(
        "warning: Device 'bench-1' contradicts its profile 'jetson_tx2': it reports a x86_64")
    assert len(answer.err.splitlines()) == 1


def test_what_a_daemon_refuses(run: Run, client: CoordinatorClient, file: Path) -> None:
    file.write_text(CAMPAIGN.replace("lenet5-mnist", "os:abort"))
    assert "fleetfront serve --tasks" in run("submit", file).err
    file.write_text(CAMPAIGN.replace("bench-1", "bench-2"))
    assert "Enrolled: bench-1" in run("submit", file).err
    file.write_text(CAMPAIGN + '[search]\nstrategies = ["tuker"]\n')
    assert "Did you mean 'tucker'?" in run("submit", file).err
    assert client.campaigns() == []


def test_no_job_runs_another_task(client: CoordinatorClient) -> None:
    """The list also limits users who submit jobs directly."""
    payload = {"task": "os:abort", "recipe": [], "seed": 0, "target": {}}
    with pytest.raises(UserError, match="serve --tasks"):
        client.submit_job("compress", "builder", payload)


def test_status_from_the_ledger_and_over_http(
    run: Run, client: CoordinatorClient, lab: Laboratory, file: Path
) -> None:
    run("submit", file, "--priority", 3)
    for where in (("--dir", lab.folder), ("--url", "http://test")):
        listed = json.loads(run("campaigns", *where, "--format", "json").out)
        assert [(row["campaign"], row["state"], row["priority"]) for row in listed] == [
            ("digits", "queued", 3)]
        status = json.loads(run("status", "digits", *where, "--format", "json").out)
        assert {**listed[0], "elapsed_s": 0} == {**status, "elapsed_s": 0}
        [row] = csv.DictReader(io.StringIO(run("campaigns", *where, "--format", "csv").out))
        assert (row["campaign"], row["complete"]) == ("digits", "0")
        assert "digits" in run("campaigns", *where).out
        assert "Did you mean 'digits'?" in run("status", "digit", *where).err


def test_wait_prints_changes(client: CoordinatorClient, run: Run, file: Path) -> None:
    run("submit", file)
    states = iter(["running", "running", "done"])
    said: list[str] = []
    follow(client, "digits", said.append, lambda _: client.set_state("digits", next(states)))
    assert [line.partition(",")[0] for line in said] == [
        "digits: queued", "digits: running", "digits: done"]


def test_waiting_for_a_campaign_that_fails(
    client: CoordinatorClient, run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("submit", file)
    client.set_state("digits", "failed", "the data is gone")
    monkeypatch.setattr(submit, "POLL_EVERY_S", 0.0)
    answer = run("submit", file, "--wait")
    assert answer.code == 1 and "the data is gone" in answer.err


# -- who is asked --------------------------------------------------------------------------------


def test_a_url_needs_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETFRONT_TOKEN", raising=False)
    with pytest.raises(UserError, match="FLEETFRONT_TOKEN"):
        options.client_of(tmp_path, "https://lab.example:8700")
    monkeypatch.setenv("FLEETFRONT_TOKEN", "secret")
    with options.client_of(tmp_path, "https://lab.example:8700/") as client:
        assert client.url == "https://lab.example:8700"
    monkeypatch.setenv("FLEETFRONT_FINGERPRINT", "sha256:0")
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        options.client_of(tmp_path, "https://lab.example:8700")
    with pytest.raises(UserError, match="must start with https"):
        options.client_of(tmp_path, "lab.example")


def test_a_folder_without_a_daemon_says_how_to_start_one(run: Run, tmp_path: Path) -> None:
    answer = run("pause", "digits", "--dir", tmp_path)
    assert answer.code == 1 and f"fleetfront serve --dir {tmp_path}" in answer.err


@pytest.mark.parametrize("words", ["", "{}", '{"url": "http://x"}', "[]"])
def test_a_torn_address_is_no_daemon(tmp_path: Path, words: str) -> None:
    (tmp_path / "coordinator.json").write_text(words)
    with pytest.raises(UserError, match="No coordinator serves"):
        options.client_of(tmp_path, None)


# -- agent ---------------------------------------------------------------------------------------


def test_the_agent_is_a_program_of_its_own(tmp_path: Path) -> None:
    fleetfront = Path(sys.executable).with_name("fleetfront")
    done = subprocess.run(
        [fleetfront, "agent", "--", "--help"], capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    assert done.returncode == 0 and "--coordinator URL" in done.stdout, done.stderr
    [archive] = (tmp_path / "fleetfront").iterdir()
    assert "agents/__main__.py" in zipfile.ZipFile(archive).namelist()


def test_the_same_agent_is_the_same_file(tmp_path: Path) -> None:
    assert agent.archive_in(tmp_path) == agent.archive_in(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
