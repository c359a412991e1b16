"""The commands devices, device and token with a real coordinator; a device joins by the printed
line."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.cli.durations import ago_text, duration_s
from searcher.errors import UserError
from searcher.local.process_tree import Tree, tree
from tests.searcher_tests.cli.conftest import Run

TOKEN = "FLEETFRONT_TOKEN"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    with tree(tmp_path_factory.mktemp("lab"), builders=0, agent=False) as grown:
        yield grown


def shown(run: Run, lab: Tree, name: str) -> dict[str, object]:
    answer = run("devices", "--dir", lab.directory, "--format", "json")
    assert answer.code == 0, answer.err
    [device] = [device for device in json.loads(answer.out) if device["name"] == name]
    return dict(device)


def test_a_device_joins_and_leaves(
    run: Run, lab: Tree, tmp_path: Path
) -> None:
    answer = run("device", "enrol", "tx2", "--profile", "jetson_tx2", "--ttl", "10m",
                 "--dir", lab.directory)
    assert answer.code == 0 and answer.out.count("\n") == 1
    assert "is reachable from this machine only" in answer.err
    device = subprocess.Popen(
        ["/bin/sh", "-c", f"{answer.out.strip()} --runtime fake --spool {tmp_path}/spool"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
    try:
        assert device.stderr is not None
        said = []
        for line in device.stderr:
            said.append(line)
            if "enrolled as" in line:
                break
        else:
            raise AssertionError("".join(said))
        row = shown(run, lab, "tx2")
        assert (row["state"], row["profile"]) == ("active", "jetson_tx2")
        assert "fake" in dict(row["capabilities"])["runtimes"]  # type: ignore[call-overload]
        missing = "it offers fake, not the profile's runtime onnxruntime"
        assert missing in row["contradictions"]  # type: ignore[operator]
        assert f"tx2 (jetson_tx2): {missing}" in run("devices", "--dir", lab.directory).out

        assert run("device", "drain", "tx2", "--dir", lab.directory).out == "tx2: drained\n"
        assert shown(run, lab, "tx2")["state"] == "drained"
        assert run("device", "release", "tx2", "--dir", lab.directory).out == "tx2: active\n"
        run("device", "quarantine", "tx2", "--reason", "fan is loud", "--dir", lab.directory)
        table = run("devices", "--dir", lab.directory).out
        assert "quarantined" in table and "fan is loud" in table
        assert run("device", "remove", "tx2", "--dir", lab.directory).out == "tx2: removed\n"
        assert device.wait(PATIENCE_S) == 1, "a removed device's agent ends"
    finally:
        if device.poll() is None:
            os.killpg(device.pid, signal.SIGKILL)
        device.wait()
        if device.stderr:
            device.stderr.close()


def test_the_line_names_the_address_that_the_device_sees(run: Run, lab: Tree) -> None:
    answer = run("device", "enrol", "nano", "--advertise", "http://192.168.1.2:8700",
                 "--dir", lab.directory)
    assert (answer.code, answer.err) == (0, "")
    assert "http://192.168.1.2:8700/agent.pyz" in answer.out
    assert "--coordinator http://192.168.1.2:8700 --name nano" in answer.out
    wrong = run("device", "enrol", "nano", "--advertise", "192.168.1.2", "--dir", lab.directory)
    assert wrong.code == 1 and "is not the address of a coordinator" in wrong.err


def test_devices_as_csv(run: Run, lab: Tree) -> None:
    lab.client.create_enrolment("x")
    answer = run("devices", "--dir", lab.directory, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert answer.code == 0 and {row["device"] for row in rows} <= {"tx2"}


def test_a_token_from_creation_to_revocation(
    run: Run, lab: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run("token", "create", "grafana", "--role", "viewer", "--ttl", "12h",
               "--dir", lab.directory)
    assert made.code == 0 and "is not shown again" in made.err
    monkeypatch.setenv(TOKEN, made.out.strip())
    assert run("devices", "--url", lab.client.url).code == 0
    refused = run("device", "drain", "tx2", "--url", lab.client.url)
    assert refused.code == 1 and "not for the viewer role" in refused.err

    listed = json.loads(run("token", "list", "--dir", lab.directory, "--format", "json").out)
    assert [(row["name"], row["state"]) for row in listed] == [("grafana", "active")]
    assert made.out.strip() not in str(listed)
    revoked = run("token", "revoke", listed[0]["id"], "--dir", lab.directory)
    assert revoked.out == f"{listed[0]['id']}: grafana (viewer) is revoked\n"
    assert "revoked" in run("devices", "--url", lab.client.url).err
    table = run("token", "list", "--dir", lab.directory).out
    assert "grafana" in table and "revoked" in table


def test_user_errors(
    run: Run, lab: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    for words, said in {
        ("devices", "--url", lab.client.url): f"set {TOKEN}",
        ("devices", "--dir", tmp_path): "No coordinator serves",
        ("device", "drain", "tx9", "--dir", lab.directory): "no device 'tx9'",
        ("device", "enrol", "a b", "--dir", lab.directory): "name",
        ("device", "enrol", "a", "--ttl", "soon", "--dir", lab.directory): "is not a duration",
        ("token", "create", "a", "--role", "root", "--dir", lab.directory): "'viewer'",
        ("token", "revoke", "x", "--dir", lab.directory): "no token 'x'",
    }.items():
        answer = run(*words)
        assert answer.code == 1 and said in answer.err, answer.err
        assert answer.out == ""


@pytest.mark.parametrize(("text", "seconds"), [
    ("90s", 90.0), ("30m", 1800.0), ("1h", 3600.0), ("1.5h", 5400.0), (" 7d ", 604_800.0)])
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "0s", "1h30m", "1w"])
def test_invalid_durations(text: str) -> None:
    with pytest.raises(UserError, match="not a duration"):
        duration_s(text)


def test_ages_in_words() -> None:
    assert [ago_text(s) for s in (-1.0, 12.3, 300.0, 10_800.0, 200_000.0)] == [
        "0 s", "12 s", "5 min", "3 h", "2 d"]
