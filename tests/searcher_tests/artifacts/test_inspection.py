"""The child process that reads uploads: resource limits and crashes."""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from searcher.artifacts import inspection
from searcher.artifacts.inspection import Bounds, inspect
from searcher.errors import BuildError
from tests.searcher_tests import models

QUICK = Bounds(cpu_s=3, wall_s=60.0)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model"
    path.write_bytes(content)
    return path


def test_an_accepted_model(tmp_path: Path) -> None:
    found = inspect(written(tmp_path, models.linear().SerializeToString()))
    assert found["accepted"] and found["macs"] == 12 and found["notes"] == []


def test_a_refused_model(tmp_path: Path) -> None:
    found = inspect(written(tmp_path, b"garbage"))
    assert (found["accepted"], found["reason"]) == (False, "not_onnx")
    assert json.loads(json.dumps(found)) == found


def test_a_file_that_explodes_when_parsed(tmp_path: Path) -> None:
    tight = dataclasses.replace(QUICK, memory_bytes=2**28, memory_per_byte=1)
    found = inspect(written(tmp_path, models.parts(8_000_000)), tight)
    assert (found["accepted"], found["reason"]) == (False, "memory")


def test_a_graph_that_explodes_when_run(tmp_path: Path) -> None:
    found = inspect(written(tmp_path, models.grows(10**10).SerializeToString()), QUICK)
    assert (found["accepted"], found["reason"]) == (False, "memory")


def test_a_graph_that_never_ends(tmp_path: Path) -> None:
    found = inspect(written(tmp_path, models.loops().SerializeToString()), QUICK)
    assert (found["accepted"], found["reason"]) == (False, "time")
    assert "3 s" in found["message"]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """``child(code)`` replaces the module that reads the file."""
    def replace(code: str) -> None:
        (tmp_path / "interpreter").write_text(f"#!{sys.executable}\n{code}\n")
        (tmp_path / "interpreter").chmod(0o700)
        monkeypatch.setattr(inspection.sys, "executable", str(tmp_path / "interpreter"))

    return replace


@pytest.mark.parametrize(("code", "reason", "said"), [
    ("import os; os.kill(os.getpid(), 11)", "crashed", "SIGSEGV"),
    ("import os; os.kill(os.getpid(), 6)", "crashed", "SIGABRT"),
    ("import os; os.kill(os.getpid(), 9)", "memory", "memory"),
    ("import os; os.kill(os.getpid(), 24)", "time", "3 s"),
    ("import os, sys; sys.stderr.write('std::bad_alloc'); sys.stderr.flush();"
     "os.kill(os.getpid(), 6)", "memory", "memory"),
])
def test_a_child_that_dies(tmp_path: Path, child: Any, code: str, reason: str, said: str) -> None:
    child(code)
    found = inspect(written(tmp_path, b"x"), QUICK)
    assert (found["accepted"], found["reason"]) == (False, reason) and said in found["message"]


def test_a_child_that_hangs(tmp_path: Path, child: Any) -> None:
    child("import signal; signal.pause()")
    found = inspect(written(tmp_path, b"x"), Bounds(cpu_s=3, wall_s=0.5))
    assert found["reason"] == "time"


def test_a_defect_of_ours_is_no_verdict(tmp_path: Path, child: Any) -> None:
    child("raise SystemExit('a module is missing')")
    with pytest.raises(BuildError, match="a module is missing") as caught:
        inspect(written(tmp_path, b"x"))
    assert caught.value.reason == "inspection"


def test_nothing_is_left_behind(tmp_path: Path, child: Any) -> None:
    child("import os, signal\n"
          f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); signal.pause()")
    inspect(written(tmp_path, b"x"), Bounds(wall_s=3.0))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)
