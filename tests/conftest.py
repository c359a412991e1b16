"""Fixtures of builder, search and system tests: the tiny task and a baseline trained once.

hypothesis tries the same examples in every run, and does not mind how fast the machine is.
"""

import gc
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("same", derandomize=True, database=None, deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")

# Before torch is imported: two workers share the cores, and threads that wait spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

gc.disable()
"""Until all modules are imported: they leave no garbage, and each collection walks over them."""

TINY = "tests.tasks_for_tests:tiny"
LONGEST = ("system", "ort111", "test_python36.py", "test_wheel.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes begin first: the last one would run alone, on one core of two."""
    items.sort(key=lambda item: not set(LONGEST) & set(item.path.parts))


def pytest_collection_finish() -> None:
    """Collections in tests pass over modules and test items: 0.3 s each with torch imported."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def tiny() -> Any:
    """The task ``TINY``; its builds take hundredths of a second on one thread."""
    import torch

    from searcher.tasks.catalog import task

    torch.set_num_threads(1)
    return task(TINY)


@pytest.fixture(scope="session")
def trained_folder(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A builder's folder that holds the trained baseline of ``tiny`` with seed 0; do not write."""
    from searcher.builders.builder import Builder
    from searcher.spec.recipe import Recipe
    from strategies.target import Target

    folder = tmp_path_factory.mktemp("trained")
    Builder(tiny, 0, folder).train(Recipe(), "full", Target())
    return folder


@pytest.fixture
def builds(trained_folder: Path, tmp_path: Path) -> Path:
    """A builder's folder of the test's own, the baseline in it."""
    return Path(shutil.copytree(trained_folder, tmp_path / "builds"))


@pytest.fixture
def tensorrt(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``trtexec`` on the PATH that behaves as documented; the log of its starts."""
    folder = tmp_path_factory.mktemp("tensorrt")
    script = Path(__file__).parent / "fake_tensorrt" / "trtexec"
    program, log = folder / "trtexec", folder / "log"
    words = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_TRTEXEC_LOG", str(log))
    return log
