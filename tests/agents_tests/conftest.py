import subprocess
import sys
from typing import Any

import pytest

from tests.agents_tests.fakes import ROOT, Coordinator


@pytest.fixture
def coordinator():
    one = Coordinator()
    yield one
    one.close()


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
