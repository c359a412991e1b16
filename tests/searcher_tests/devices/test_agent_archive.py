"""agent.pyz: one file, the same bytes for the same sources."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import agents
from searcher.devices.agent_archive import agent_archive

SOURCE = Path(agents.__file__).parent


def copied(folder: Path, mtime_s: float) -> Path:
    package = folder / "agents"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in package.rglob("*"):
        os.utime(file, (mtime_s, mtime_s))
    return package


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    first = copied(tmp_path / "one", 1e9)
    second = copied(tmp_path / "two", 1.5e9)
    (second / "__pycache__").mkdir()
    (second / "__pycache__" / "x.pyc").write_bytes(b"x")
    (second / "page").mkdir()
    (second / "page" / "index.html").write_text("x")
    os.chmod(second / "agent.py", 0o600)
    assert agent_archive(first) == agent_archive(second) == agent_archive()
    third = copied(tmp_path / "three", 1e9)
    (third / "agent.py").write_text((third / "agent.py").read_text() + "\n")
    assert agent_archive(third) != agent_archive()


def test_it_holds_the_agent_and_runs(tmp_path: Path) -> None:
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(agent_archive())
    names = zipfile.ZipFile(io.BytesIO(agent_archive())).namelist()
    assert {"__main__.py", "agents/agent.py", "agents/runtimes/fake.py"} <= set(names)
    assert names == sorted(names) and not any(".pyc" in name for name in names)
    done = subprocess.run([sys.executable, "-I", str(archive), "--help"], capture_output=True,
                          text=True, check=True, cwd=tmp_path)
    assert "--coordinator" in done.stdout
    wrong = subprocess.run([sys.executable, "-I", str(archive)], capture_output=True, text=True,
                           check=False, cwd=tmp_path)
    assert wrong.returncode == 1 and "--coordinator is missing" in wrong.stderr


def test_it_is_small() -> None:
    assert len(agent_archive()) < 200_000
