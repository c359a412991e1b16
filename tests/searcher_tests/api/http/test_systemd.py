"""The service unit, and notifications to systemd."""

import shlex
import socket
from configparser import ConfigParser
from pathlib import Path

import pytest
import typer

from searcher.api.http.systemd import notify
from searcher.cli.main import app

UNIT = Path(__file__).parents[4] / "docs" / "fleetfront.service"


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@{tmp_path.name}-notify" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name.replace("@", "\0") if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1")
        assert systemd.recv(100) == b"READY=1"


def test_without_a_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "missing"))
    notify("READY=1")


def test_the_units_command_is_one_of_ours() -> None:
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    program, command, *words = shlex.split(service["ExecStart"])
    assert Path(program).is_absolute() and Path(program).name == "fleetfront"
    found = typer.main.get_command(app)
    context = found.commands[command].make_context(command, words)  # type: ignore[attr-defined]
    assert context.params["directory"].is_relative_to("/var/lib")
    assert context.params["directory"].name == service["StateDirectory"]
    assert service["Type"] == "notify" and service["Restart"] == "on-failure"
