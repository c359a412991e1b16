"""The process tree of ``run`` with this machine as the device."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from searcher.client.http import CoordinatorClient
from searcher.client.records import Device
from searcher.errors import FleetfrontError, UserError
from searcher.ledger.read_only import open_ledger
from searcher.ledger.tables import campaigns
from searcher.ledger.tables import devices as device_table
from searcher.local.process_tree import Tree, await_agent, tree
from searcher.local.run import has_ended
from searcher.results.view import Reading
from searcher.spec.campaign import from_document
from tests.searcher_tests.dispatch.laboratory import Laboratory


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


def test_missing_settings_of_older_versions_are_defaults(
    tmp_path: Path
) -> None:
    campaign = from_document({"name": "digits", "task": "lenet5-mnist"})
    stored = campaign.as_dict()
    del stored["measurement"]["plan"]["energy_s"]
    lab = Laboratory.open(tmp_path)
    with lab.store.atomic() as db:
        campaigns.create(db, "digits", stored, 0.0)
    lab.store.close()
    assert not has_ended(Reading(tmp_path), campaign)
    with pytest.raises(UserError, match="other settings"):
        has_ended(Reading(tmp_path), replace(campaign, seed=1))


def test_await_agent_waits_for_the_new_agent(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    """Its earlier capabilities may differ from the current ones."""
    class Devices:
        def __init__(self) -> None:
            self.asked = 0

        def devices(self) -> list[Device]:
            self.asked += 1
            return [Device("local_cpu", None, {}, {}, 1, "active", 1.0,
                           5.0 if self.asked < 3 else 6.0, 0, None)]

    Laboratory.open(tmp_path).store.close()
    client: Any = Devices()
    await_agent(Tree(tmp_path, client, {"agent": child}, seen_s=5.0))
    assert client.asked == 3
    await_agent(Tree(tmp_path, client, {"agent": child}))
    assert client.asked == 4


def test_another_run_releases_the_machine(quarantined: Path) -> None:
    with tree(quarantined, builders=0, agent=True) as grown:
        grown.check()
        with open_ledger(quarantined / "ledger.db") as db:
            device = device_table.device(db, "local_cpu")
        assert device is not None and device.state == "active"
