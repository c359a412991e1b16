"""A campaign whose runtime needs every file prepared, on scripted candidates."""

from typing import Any

import pytest

from agents.protocol import ArtifactRef, InferPayload
from searcher.client.jobs import JobFlow
from searcher.errors import BuildError
from searcher.jobs.infer import InferRequest
from searcher.ledger.tables.search_state import FileRef
from searcher.search.device_quality import OnDevice
from tests.searcher_tests.fake_coordinator import (
    FakeCoordinator,
    Fate,
    Scripted,
    campaign,
    search_of,
)

SPEC = campaign(devices=[{"profile": "fake", "runtime": "trtexec"}],
                budget={"candidates": 2, "wall_minutes": 60})
INPUTS = FileRef("1" * 64, 100)


def coordinator(**fates: Fate) -> FakeCoordinator:
    return FakeCoordinator(SPEC.as_dict(), dict(fates))


def searched(client: FakeCoordinator, *names: str) -> dict[str, dict[str, Any]]:
    search_of(client, Scripted(*names), SPEC, on_device=OnDevice(
        "it runs files with trtexec", lambda split: INPUTS)).run()
    return {row["steps"][0]["strategy"]: row for row in client.rows}


def kinds_of(client: FakeCoordinator, sha256: str) -> list[tuple[str, int]]:
    """Kind and batch of the device's jobs for a file, in order of submission."""
    found = []
    for job in client.jobs:
        asked = job["payload"]
        files = [asked["model"]] if "model" in asked else asked.get("candidates", [])
        if sha256 in [file["sha256"] for file in files]:
            found.append((job["kind"], asked["options"]["batch"]))
    return found


def test_every_file_is_prepared_before_measurement_and_inference() -> None:
    client = coordinator()
    rows = searched(client, "a")
    assert rows["a"]["state"] == "complete" and client.state == "done"
    baseline = client.search_state.baseline
    assert baseline.on_device is not None
    for sha256 in (rows["a"]["sha256"], baseline.sha256):
        kinds = kinds_of(client, sha256)
        assert kinds.index(("prepare", 1)) < kinds.index(("measure", 1))
        assert kinds.index(("prepare", 100)) < kinds.index(("infer", 100))
        assert kinds.count(("prepare", 1)) == kinds.count(("prepare", 100)) == 1, "shared"
    asked = client.of_kind("prepare")[0]
    assert asked["runtime"] == "trtexec" and asked["model"]["size_bytes"] == 1000


def test_a_failed_preparation_fails_only_its_candidate() -> None:
    client = coordinator(bad=Fate(unprepared="no such layer"))
    rows = searched(client, "bad", "a")
    assert (rows["bad"]["state"], rows["bad"]["reason"]) == (
        "failed", "not_prepared: no such layer")
    assert rows["a"]["state"] == "complete"
    measured = {file["sha256"] for asked in client.of_kind("measure")
                for file in asked["candidates"]}
    assert all(client.files[sha256][0] != "bad" for sha256 in measured)


def test_a_failed_preparation_of_the_baseline_fails_the_run_and_the_next_run_retries() -> None:
    client = coordinator(baseline=Fate(1.0, 1000, 0.99, unprepared="no room"))
    with pytest.raises(BuildError, match="not_prepared: no room"):
        searched(client, "a")
    assert len(client.of_kind("prepare")) == 1 and client.of_kind("measure") == []
    client.script["baseline"].unprepared = None
    assert searched(client, "a")["a"]["state"] == "complete"


def test_a_dropped_preparation_is_repeated() -> None:
    client = coordinator()
    searched(client, "a")
    kept = [job for job in client.jobs if job["kind"] in ("prepare", "train")]
    again = FakeCoordinator(SPEC.as_dict(), files=client.files, jobs=[
        {**job, "job": number} for number, job in enumerate(kept, 1)])
    rows = searched(again, "a")
    assert rows["a"]["state"] == "complete"
    baseline = again.search_state.baseline
    assert baseline.on_device is not None
    kinds = [kind for kind, batch in kinds_of(again, baseline.sha256) if batch == 1]
    assert kinds[:4] == ["prepare", "measure", "prepare", "measure"]


def test_a_second_dropped_preparation_fails_the_candidate() -> None:
    class Forgetful(FakeCoordinator):
        def _prepare(self, payload: dict[str, Any]) -> dict[str, Any]:
            found = super()._prepare(payload)
            self.engines.clear()
            return found

    client: Any = Forgetful(SPEC.as_dict(), files={"2" * 64: ("a", "full")})
    flow = JobFlow(client, "c", "fake")
    request = InferRequest(InferPayload(
        ArtifactRef("2" * 64, 5), ArtifactRef(INPUTS.sha256, INPUTS.size_bytes), "trtexec",
        {"batch": 1}, 1))
    job = flow.wait_for(request, 1)
    assert (job.state, job.reason) == ("failed", "not_prepared")
    assert len(client.of_kind("prepare")) == len(client.of_kind("infer")) == 2


def test_other_runtimes_need_no_preparation() -> None:
    spec = campaign(devices=[{"profile": "fake", "threads": 2}],
                    budget={"candidates": 1, "wall_minutes": 60})
    client = FakeCoordinator(spec.as_dict())
    search_of(client, Scripted("a"), spec).run()
    assert client.of_kind("prepare") == []
    assert {asked["options"]["threads"] for asked in client.of_kind("measure")} == {2}
