"""A front with accuracies from the device, on scripted candidates."""

from typing import Any

import pytest

from searcher.ledger.tables.search_state import FileRef, SearchState
from searcher.search.device_quality import NO_QUALITY, OnDevice
from tests.searcher_tests.fake_coordinator import (
    LEVEL_S,
    FakeCoordinator,
    Fate,
    Scripted,
    campaign,
    search_of,
)

WHY = "it may compute in float16"


def on_device() -> OnDevice:
    return OnDevice(WHY, lambda split: FileRef({"validation": "1", "test": "2"}[split] * 64, 100))


def ran(fates: dict[str, Fate]) -> tuple[FakeCoordinator, dict[str, Any]]:
    spec = campaign(budget={"candidates": len(fates), "wall_minutes": 60})
    client = FakeCoordinator(spec.as_dict(), dict(fates))
    search_of(client, Scripted(*fates), spec, on_device=on_device()).run()
    return client, {row["steps"][0]["strategy"]: row for row in client.rows
                    if row["steps"][0]["strategy"] in fates}


def saved(client: FakeCoordinator) -> SearchState:
    assert client.state == "done"
    return client.search_state


def test_the_front_has_the_devices_accuracies_and_the_trials_keep_the_hosts() -> None:
    client, rows = ran({"a": Fate(0.8, 800, 0.985, there=0.98), "b": Fate(0.5, 500, 0.98)})
    a = saved(client).joint[rows["a"]["id"]]
    assert a.values is not None and a.intervals is not None
    assert a.values["accuracy"] == pytest.approx(0.98)
    assert a.values["quality_drop"] == pytest.approx(0.01), "against the baseline there"
    assert a.values["latency_s"] == pytest.approx(0.8 * LEVEL_S)
    assert set(a.intervals) == {"latency_s", "accuracy", "quality_drop"}
    assert rows["a"]["values"]["accuracy"] == 0.985
    found = saved(client).baseline.on_device
    assert found is not None
    assert found.place == "fake/onnxruntime/CPUExecutionProvider" and found.why == WHY
    assert found.values == {"accuracy": 0.99}
    assert found.inputs["test"].sha256 == "2" * 64, "named, so that it is not dropped"


def test_infeasible_on_the_device_is_off_the_front() -> None:
    client, rows = ran({"a": Fate(0.5, 500, 0.985, there=0.7), "b": Fate(0.8, 800, 0.99)})
    constraints = saved(client).joint[rows["a"]["id"]].constraints or {}
    assert constraints["quality_drop"] > 0
    tested = {p["model"]["sha256"] for p in client.of_kind("infer")
              if p["inputs"]["sha256"] == "2" * 64}
    assert tested == {rows["b"]["sha256"], saved(client).baseline.sha256}


def test_only_the_front_runs_the_test_split_on_the_device() -> None:
    client, rows = ran({"a": Fate(0.8, 800, 0.985), "b": Fate(0.9, 900, 0.97)})
    evaluated = client.of_kind("evaluate")
    assert all("outputs" in payload for payload in evaluated)
    tested = [p["sha256"] for p in evaluated if p["split"] == "test"]
    assert sorted(tested) == sorted([rows["a"]["sha256"], saved(client).baseline.sha256])


def test_a_failed_inference_is_off_the_front_with_its_reason() -> None:
    client, rows = ran({"a": Fate(0.5, 500, 0.985, infer_fails=9), "b": Fate(0.8, 800, 0.98)})
    entry = saved(client).joint[rows["a"]["id"]]
    assert (entry.constraints or {})[NO_QUALITY] > 0
    assert entry.reason == "no accuracy on the device: the device stumbled"
    asked = [p["attempt"] for p in client.of_kind("infer")
             if p["model"]["sha256"] == rows["a"]["sha256"]]
    assert asked == [1, 2]


def test_a_failed_inference_is_repeated() -> None:
    client, rows = ran({"a": Fate(0.5, 500, 0.985, infer_fails=1, there=0.98)})
    entry = saved(client).joint[rows["a"]["id"]]
    assert (entry.values or {})["accuracy"] == 0.98
    assert (entry.constraints or {})["quality_drop"] <= 0


def test_a_file_on_another_place_than_the_baseline_does_not_count() -> None:
    client, rows = ran({"a": Fate(0.5, 500, 0.985, provider="OtherProvider")})
    entry = saved(client).joint[rows["a"]["id"]]
    assert "OtherProvider" in (entry.reason or "")
    assert (entry.constraints or {})[NO_QUALITY] > 0


def test_a_failed_baseline_inference_keeps_the_hosts_accuracies() -> None:
    client, rows = ran({"baseline": Fate(1.0, 1000, 0.99, infer_fails=9), "a": Fate(0.5, 500)})
    found = saved(client)
    assert found.baseline.on_device is None
    assert found.notes[0].startswith("figures of accuracy are the host's, although " + WHY)
    assert all("outputs" not in payload for payload in client.of_kind("evaluate")
               if payload["split"] == "test")
