"""Scans come before the first candidate, within their share of the search time."""

from dataclasses import replace
from typing import Any

import pytest

from searcher.documents import parse
from searcher.search.recipes.warm_starts import known_recipes
from searcher.search.sampling import Sampling
from searcher.search.space import Space
from searcher.spec.scan_result import ScanResult
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


def space_with(scan: dict[str, Any]) -> Space:
    spec = campaign(search={"strategies": STRATEGIES})
    space = Space.of(spec, layers_of(network()), frozenset({"float32", "int8"}))
    return replace(space, scans={"clustering": parse(ScanResult, scan)})


def prepared(search: dict[str, Any], threads: int, scans: dict[str, dict[str, Any]]
             ) -> tuple[FakeCoordinator, Any]:
    spec = campaign(search={"repair": True, "strategies": STRATEGIES, **search},
                    budget={"candidates": 12, "wall_minutes": 5})
    space = Space.of(spec, layers_of(network()), frozenset({"float32", "int8"}))
    client = FakeCoordinator(spec.as_dict(), {}, scans=scans)
    return client, search_of(client, Sampling(spec, space), spec, threads=threads)


def ran(search: dict[str, Any], threads: int = 2, **scans: dict[str, Any]
        ) -> tuple[FakeCoordinator, Any]:
    client, loop = prepared(search, threads, scans)
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
    assert all(0 < payload["seconds"] <= 0.1 * 300 for payload in scans), "side by side"
    assert any(tables(client)) and all(tables(client))
    state = client.search_state
    assert {client.jobs[job - 1]["payload"]["strategy"] for job in state.scans.values()} == set(
        state.scans) == {"clustering", "channel_pruning"}


@pytest.mark.parametrize(("threads", "rounds"), [(2, 2), (1, 3), (4, 1)])
def test_all_scans_together_take_a_tenth_of_the_search_time(threads: int, rounds: int) -> None:
    strategies = ["clustering", "channel_pruning", "magnitude_pruning"]
    client, _ = ran({"strategies": strategies}, threads)
    scans = client.of_kind("scan")
    assert len(scans) == 3
    assert [payload["seconds"] for payload in scans] == [
        pytest.approx(0.1 * 300 / rounds)] * 3


def test_known_recipes_are_no_stronger_than_the_scan_allows() -> None:
    """The losses at four bits are 0.016 together, and thirty times as much."""
    weak = found(layers=[{**layer, "levels": [{**level, "loss": 30 * level["loss"]}
                                              for level in layer["levels"]]}
                         for layer in found()["layers"]])
    asked = [known_recipes(space_with(scan)) for scan in (found(), weak)]
    bits = [next(r["model.clustering.bits"] for r in recipes if set(r) == {
        "model.clustering.on", "model.clustering.bits"}) for recipes in asked]
    assert bits == [4, 6]


def test_the_first_recipes_know_the_scans() -> None:
    client, loop, spaces = *prepared({}, 2, {"clustering": found()}), list[Space]()
    loop._first = lambda space: spaces.append(space) or known_recipes(space)[:1]
    loop.run()
    assert [set(space.scans) for space in spaces] == [{"clustering", "channel_pruning"}]
    [first] = [row["steps"] for row in client.rows if row["number"] == 0]
    assert [step["strategy"] for step in first] == ["finetune", "int8"]


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
