"""Scans come before the first candidate, within their share of the search time."""

from typing import Any

import pytest

from searcher.search.sampling import Sampling
from searcher.search.space import Space
from strategies.layers import layers_of
from tests.searcher_tests.fake_coordinator import FakeCoordinator, campaign, search_of
from tests.tasks_for_tests import network

LAYERS = {"conv1": 54, "conv2": 324, "fc1": 864, "fc2": 64}
STRATEGIES = ["clustering", "channel_pruning", "int8"]


def found(**changes: Any) -> dict[str, Any]:
    """Bits of clustering: each further bit quarters what a layer loses."""
    return {"strategy": "clustering", "parameter": "bits", "samples": 128, "layers": [
        {"layer": name, "weights": size, "levels": [
            {"strength": bits, "loss": 0.25**bits, "file_bytes": size * bits / 8, "macs": 10}
            for bits in (2, 3, 4, 5, 6, 8)]} for name, size in LAYERS.items()], **changes}


def ran(search: dict[str, Any], **scans: dict[str, Any]) -> tuple[FakeCoordinator, Any]:
    spec = campaign(search={"repair": True, "strategies": STRATEGIES, **search},
                    budget={"candidates": 12, "wall_minutes": 5})
    space = Space.of(spec, layers_of(network()), frozenset({"float32", "int8"}))
    client = FakeCoordinator(spec.as_dict(), {}, scans=scans)
    loop = search_of(client, Sampling(spec, space), spec, threads=2)
    loop.run()
    return client, loop


def tables(client: FakeCoordinator) -> list[bool]:
    return [isinstance(step["bits"], dict) for row in client.rows for step in row["steps"]
            if step["strategy"] == "clustering" and step["layers"] == "model"]


def test_scans_come_first_and_give_tables() -> None:
    client, _ = ran({}, clustering=found())
    kinds = [job["kind"] for job in client.jobs]
    assert kinds.index("scan") < kinds.index("compress")
    scans = client.of_kind("scan")
    assert {payload["strategy"] for payload in scans} == {"clustering", "channel_pruning"}
    seconds = sum(payload["seconds"] for payload in scans)
    assert 0 < seconds <= 0.1 * 300 * 2 + 0.1, "a tenth of the search time of two builders"
    assert any(tables(client)) and all(tables(client))
    state = client.search_state
    assert {client.jobs[job - 1]["payload"]["strategy"] for job in state.scans.values()} == set(
        state.scans) == {"clustering", "channel_pruning"}


def test_without_scan_one_number_for_all_layers() -> None:
    client, _ = ran({"scan": False}, clustering=found())
    assert not client.of_kind("scan") and not client.search_state.scans
    assert tables(client) and not any(tables(client))


@pytest.mark.parametrize(("result", "note"), [
    ({"reason": "build", "message": "it went wrong"},
     "clustering has one number for all layers, its scan failed: it went wrong"),
    (found(coarser="16 samples instead of 128"), "16 samples instead of 128")])
def test_what_a_scan_lacks_is_said(result: dict[str, Any], note: str) -> None:
    client, _ = ran({}, clustering=result)
    [said] = client.search_state.notes
    assert note in said
    assert client.state == "done" and any(tables(client)) == ("reason" not in result)
