"""The command that enrols a device; ``cli/test_lab_commands.py`` runs one."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from searcher.devices.join_command import Invitation, is_loopback
from searcher.errors import UserError

CONTENT = b"import sys\nprint(sys.argv[1:])\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def run(line: str, folder: Path, tools: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs the command in a shell with these tools as scripts, without network."""
    binaries = folder / "bin"
    binaries.mkdir()
    (folder / "content").write_bytes(CONTENT)
    for name, script in tools.items():
        (binaries / name).write_text(f"#!/bin/sh\n{script}\n")
        (binaries / name).chmod(0o755)
    work = folder / "work"
    work.mkdir()
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False,
                          cwd=work, env={"PATH": f"{binaries}:/usr/bin:/bin"})


COPY = 'echo "$@" >> ../words; while [ "$1" != -o ] && [ "$1" != -qO ]; do shift; done; ' \
       'cp ../content "$2"'


def test_one_line_fetches_checks_and_starts(tmp_path: Path) -> None:
    line = Invitation("tx2", "-secret", SHA256).line("http://10.0.0.1:8700/")
    assert "\n" not in line
    done = run(line + " --runtime fake", tmp_path, {"curl": COPY})
    assert done.returncode == 0, done.stderr
    assert "['--coordinator', 'http://10.0.0.1:8700', '--name', 'tx2', '--token=-secret', " \
           "'--runtime', 'fake']" in done.stdout
    assert (tmp_path / "words").read_text().split()[-1] == "http://10.0.0.1:8700/agent.pyz"
    assert [file.name for file in (tmp_path / "work").iterdir()] == ["agent.pyz"]


def test_without_curl_wget_will_do(tmp_path: Path) -> None:
    line = Invitation("tx2", "secret", SHA256).line("http://10.0.0.1:8700")
    done = run(line, tmp_path, {"curl": "exit 127", "wget": COPY})
    assert done.returncode == 0 and "'tx2'" in done.stdout


def test_a_file_with_another_digest_is_not_run(tmp_path: Path) -> None:
    line = Invitation("tx2", "secret", "0" * 64).line("http://10.0.0.1:8700")
    done = run(line, tmp_path, {"curl": COPY})
    assert done.returncode != 0 and "'tx2'" not in done.stdout
    assert not (tmp_path / "work" / "agent.pyz").exists()


def test_nothing_is_run_when_nothing_comes(tmp_path: Path) -> None:
    line = Invitation("tx2", "secret", SHA256).line("http://10.0.0.1:8700")
    done = run(line, tmp_path, {"curl": "exit 7", "wget": "exit 4"})
    assert done.returncode != 0 and done.stdout == ""


def test_a_certificate_that_nobody_vouches_for_is_pinned() -> None:
    pin = "sha256:" + "ab" * 32
    line = Invitation("tx2", "secret", SHA256, pin).line("https://lab:8700")
    assert "curl -kfsS" in line and "wget --no-check-certificate" in line
    assert line.endswith(f" --fingerprint {pin}")
    for plain in (Invitation("tx2", "secret", SHA256).line("https://lab:8700"),
                  Invitation("tx2", "secret", SHA256, pin).line("http://lab:8700")):
        assert "curl -fsS" in plain and "--fingerprint" not in plain and "no-check" not in plain


@pytest.mark.parametrize("url", ["", "lab:8700", "ftp://lab", "http://", "https:///x"])
def test_no_address(url: str) -> None:
    with pytest.raises(UserError, match="not the address of a coordinator"):
        Invitation("tx2", "secret", SHA256).line(url)


def test_odd_addresses_stay_one_word(tmp_path: Path) -> None:
    line = Invitation("tx2", "secret", SHA256).line("http://lab:1/$(touch x);a b")
    done = run(line, tmp_path, {"curl": COPY})
    assert done.returncode == 0 and "'http://lab:1/$(touch x);a b'" in done.stdout
    assert not (tmp_path / "work" / "x").exists()


@pytest.mark.parametrize(("url", "here"), [
    ("http://127.0.0.1:1", True), ("http://localhost:1", True), ("http://[::1]:1", True),
    ("http://10.0.0.1:1", False), ("http://lab:1", False), ("https://[fe80::1]:1", False)])
def test_loopback(url: str, here: bool) -> None:
    assert is_loopback(url) is here
