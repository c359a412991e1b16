"""The process tree of ``run`` where its own machine is the device."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.client import CoordinatorClient
from searcher.errors import FleetfrontError
from searcher.ledger import members
from searcher.ledger.reading import open_ledger
from searcher.running import Tree, tree
from tests.searcher_tests.devices.laboratory import Laboratory


@pytest.fixture
def quarantined(tmp_path: Path) -> Path:
    """A folder whose local device is in quarantine."""
    lab = Laboratory.open(tmp_path)
    lab.device("local_cpu")
    lab.coordinator.set_device_state("local_cpu", "quarantined", "3 strikes in a row")
    lab.store.close()
    return tmp_path


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate(b"\n")


def test_a_machine_in_quarantine_ends_the_run_with_the_reason(
    quarantined: Path, child: subprocess.Popen[bytes]
) -> None:
    with CoordinatorClient("http://127.0.0.1:1", "") as client:
        grown = Tree(quarantined, client, {"agent": child})
        with pytest.raises(FleetfrontError, match="not measure reliably: 3 strikes in a row"):
            grown.check()


def test_running_again_releases_it(quarantined: Path) -> None:
    with tree(quarantined, builders=0, agent=True) as grown:
        grown.check()
        with open_ledger(quarantined / "ledger.db") as db:
            device = members.device(db, "local_cpu")
        assert device is not None and device.state == "active"
