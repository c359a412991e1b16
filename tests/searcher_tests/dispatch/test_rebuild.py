"""Dropped files over HTTP: status 410, rebuild jobs, and searches that continue after them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from searcher.api.app import create_app
from searcher.client.http import CoordinatorClient
from searcher.client.jobs import EndedJob, JobFlow
from searcher.client.rebuilds import have_built
from searcher.client.records import Job
from searcher.errors import DroppedError, ProtocolError, UserError
from searcher.jobs import registry
from searcher.ledger.rows import AgentRow
from searcher.ledger.tables import artifacts, builds, campaigns, jobs
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.dispatch.laboratory import (
    SPEC,
    Laboratory,
    build_result,
    envelope,
    measure_payload,
)
from tests.stored_rows import is_dropped


class Scene:
    """A served laboratory with one finished build, whose file was dropped."""

    def __init__(self, folder: Path) -> None:
        self.lab = Laboratory.open(folder)
        self.server = LocalServer(create_app(self.lab.coordinator, "operator"))
        self.server.__enter__()
        self.client = CoordinatorClient("http://test", "operator", transport=self.server,
                                        retry_for_s=0.0)
        with self.lab.store.atomic() as db:
            campaigns.create(db, "digits", SPEC, self.lab.clock())
        self.lab.coordinator.set_campaign_state("digits", "running")
        self.builder: AgentRow = self.lab.builder()
        self.first = self.lab.compress(campaign="digits")
        self.content = b""
        self.sha256 = self.built()["sha256"]
        self.content = self.path.read_bytes()
        self.drop()

    @property
    def path(self) -> Path:
        return self.lab.folder / "artifacts" / self.sha256

    def built(self, content: bytes | None = None, **changes: Any) -> dict[str, Any]:
        """Run the builder's next job, which gives ``content``. Returns its stored result."""
        job = self.lab.leased(self.builder)
        if content is None:
            self.lab.done(self.builder, job)
        else:
            result = {**build_result(self.lab.artifact(content)), **changes}
            self.lab.put(self.builder, job, envelope(result))
        row = jobs.get(self.lab.store.db, job.id)
        assert row is not None and row.result is not None
        return row.result

    def same(self) -> dict[str, Any]:
        return self.built(self.content, build_key=self.key)

    @property
    def key(self) -> str:
        artifact = builds.artifact(self.lab.store.db, self.sha256)
        assert artifact is not None and artifact.build_key is not None
        return artifact.build_key

    def drop(self) -> None:
        with self.lab.store.atomic() as db:
            artifacts.drop(db, [self.sha256], self.lab.clock())
        self.path.unlink()

    def close(self) -> None:
        self.client.close()
        self.server.__exit__()
        self.lab.store.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def test_a_dropped_file_gives_410_and_an_unknown_one_404(scene: Scene) -> None:
    http = httpx.Client(base_url="http://test", transport=scene.server, headers={
        "Authorization": "Bearer operator"})
    answer = http.get(f"/v1/artifacts/{scene.sha256}")
    assert answer.status_code == 410 and answer.json()["sha256"] == scene.sha256
    assert f"POST /v1/artifacts/{scene.sha256}/rebuild" in answer.json()["error"]
    assert http.get(f"/v1/artifacts/{'0' * 64}").status_code == 404
    with pytest.raises(DroppedError) as gone:
        scene.client.artifact(scene.sha256)
    assert gone.value.sha256 == scene.sha256


def test_a_deleted_file_is_built_again_too(scene: Scene) -> None:
    with scene.lab.store.atomic() as db:
        artifacts.found_again(db, [scene.sha256])
    with pytest.raises(DroppedError, match="or lost"):
        scene.client.artifact(scene.sha256)
    scene.client.rebuild(scene.sha256)
    scene.same()
    assert scene.client.artifact(scene.sha256) == scene.content


def test_a_rebuild_gives_the_same_bytes(scene: Scene) -> None:
    job = scene.client.rebuild(scene.sha256)
    assert (job.kind, job.state) == ("compress", "queued") and job.job != scene.first.id
    assert scene.client.rebuild(scene.sha256) == job, "asked twice, built once"
    scene.same()
    ended = scene.client.wait_job(job.job)
    assert (ended.state, ended.reason) == ("done", None)
    assert ended.result["difference"] is None
    assert scene.client.artifact(scene.sha256) == scene.content
    assert not is_dropped(scene.lab.store.db, scene.sha256)
    first = jobs.get(scene.lab.store.db, scene.first.id)
    assert first is not None and first.result is not None, "others rely on it"
    again = scene.client.rebuild(scene.sha256)
    assert (again.job, again.state) == (job.job, "done"), "it is there: nothing to do"


def test_a_rebuild_repeats_the_request_of_the_build(scene: Scene) -> None:
    scene.client.rebuild(scene.sha256)
    lease = scene.lab.leased(scene.builder)
    assert lease.payload == {**scene.first.payload, "rebuild_of": scene.sha256}


def test_a_rebuild_has_the_fidelity_and_threads_of_the_build(scene: Scene) -> None:
    scene.client.submit_job("train", "builder", {
        **scene.first.payload, "fidelity": "full", "threads": 2, "repair": True,
        "epochs": {"short": 1, "full": 3}})
    scene.sha256 = scene.built()["sha256"]
    scene.drop()
    assert scene.client.rebuild(scene.sha256).kind == "train"
    payload = scene.lab.leased(scene.builder).payload
    assert (payload["fidelity"], payload["threads"]) == ("full", 2)
    assert (payload["repair"], payload["epochs"]) == (True, {"short": 1, "full": 3})


def test_a_repaired_file_is_repaired_again(scene: Scene) -> None:
    scene.client.submit_job("compress", "builder", {**scene.first.payload, "repair": True})
    scene.sha256 = scene.built()["sha256"]
    build = builds.of_file(scene.lab.store.db, scene.sha256)
    assert build is not None and build.fidelity == "repaired"
    scene.drop()
    assert scene.client.rebuild(scene.sha256).kind == "compress"
    assert scene.lab.leased(scene.builder).payload["repair"] is True


def test_a_file_can_be_dropped_and_built_again_repeatedly(scene: Scene) -> None:
    for _ in range(3):
        job = scene.client.rebuild(scene.sha256)
        scene.same()
        assert scene.client.wait_job(job.job).state == "done"
        scene.drop()


def test_different_bytes_are_reported(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    job = scene.client.rebuild(scene.sha256, "digits")
    other = scene.built(b"another file", build_key=scene.key, probe_outputs=[0.25, 0.5])["sha256"]
    ended = scene.client.wait_job(job.job)
    assert (ended.state, ended.reason) == ("done", "different_bytes")
    assert ended.result["difference"] == {
        "sha256_before": scene.sha256, "sha256_after": other,
        "file_bytes_before": len(scene.content), "file_bytes_after": 12,
        "max_abs_difference": 0.25}
    assert "0.25" in ended.message and scene.sha256 in ended.message
    assert [r for r in caplog.records if "different_bytes" in r.getMessage()]
    assert is_dropped(scene.lab.store.db, scene.sha256), "the old one is not there"
    assert scene.client.rebuild(scene.sha256).state == "queued", "it may be tried again"


def test_outputs_that_cannot_be_compared(scene: Scene) -> None:
    scene.client.rebuild(scene.sha256)
    result = scene.built(b"another file", build_key=scene.key, probe_outputs=None)
    assert result["difference"]["max_abs_difference"] is None


def test_files_without_a_recipe_cannot_be_built_again(scene: Scene) -> None:
    with scene.lab.store.atomic() as db:
        builds.put_artifact(db, "9" * 64, 4, 1.0)
        artifacts.drop(db, ["9" * 64], 2.0)
    with pytest.raises(ProtocolError, match="original file again") as refused:
        scene.client.rebuild("9" * 64)
    assert refused.value.status == 409
    with pytest.raises(UserError, match="no artifact"):
        scene.client.rebuild("8" * 64)
    with pytest.raises(UserError, match="64 hexadecimal"):
        scene.client.rebuild("ledger.db")


def evaluate(scene: Scene) -> dict[str, Any]:
    return {"task": "lenet5-mnist", "sha256": scene.sha256, "split": "test"}


def measure(scene: Scene) -> dict[str, Any]:
    return measure_payload(scene.lab.artifact(b"reference"), {
        "sha256": scene.sha256, "size_bytes": len(scene.content)})


def test_submit_refuses_a_job_whose_file_was_dropped(scene: Scene) -> None:
    for kind, pool, payload in (("evaluate", "builder", evaluate(scene)),
                                ("measure", "device:tx2", measure(scene))):
        with pytest.raises(DroppedError) as gone:
            scene.client.submit_job(kind, pool, payload)  # type: ignore[arg-type]
        assert gone.value.sha256 == scene.sha256


def test_a_done_job_needs_no_file(scene: Scene) -> None:
    scene.client.rebuild(scene.sha256)
    scene.same()
    scene.client.submit_job("evaluate", "builder", evaluate(scene))
    scene.lab.done(scene.builder, scene.lab.leased(scene.builder))
    scene.drop()
    assert scene.client.submit_job("evaluate", "builder", evaluate(scene)).state == "done"


@pytest.mark.parametrize("kind", ["evaluate", "measure"])
def test_a_search_rebuilds_the_file_and_continues(scene: Scene, kind: Any) -> None:
    flow = JobFlow(scene.client, "digits", "tx2")
    agent = scene.lab.device("tx2", hostname="elsewhere")
    ended: list[EndedJob[Any]] = []
    payload = evaluate(scene) if kind == "evaluate" else measure(scene)
    flow.submit(registry.named(kind).parse(payload), 10, ended.append)
    flow.listen(0.0)
    assert ended == []
    scene.same()
    flow.listen(0.0)
    worker = scene.builder if kind == "evaluate" else agent
    scene.lab.done(worker, scene.lab.leased(worker))
    flow.listen(0.0)
    (job,) = ended
    ran = jobs.get(scene.lab.store.db, job.job or 0)
    assert job.state == "done" and job.result is not None and ran is not None
    assert ran.kind == kind
    assert not flow.has_news


def test_a_search_gets_a_failed_job_for_a_file_that_cannot_be_rebuilt(scene: Scene) -> None:
    flow = JobFlow(scene.client, "digits", "tx2")
    ended: list[EndedJob[Any]] = []
    kind = registry.named("evaluate")
    flow.submit(kind.parse(evaluate(scene)), 10, ended.append)
    scene.built(b"another file", build_key=scene.key)
    flow.listen(0.0)
    with scene.lab.store.atomic() as db:
        builds.put_artifact(db, "9" * 64, 4, 1.0)
        artifacts.drop(db, ["9" * 64], 2.0)
    flow.submit(kind.parse({**evaluate(scene), "sha256": "9" * 64}), 10, ended.append)
    flow.listen(0.0)
    assert [(job.state, job.reason) for job in ended] == [("failed", "not_rebuilt")] * 2
    assert "became" in ended[0].message and "original file" in ended[1].message


class Building(CoordinatorClient):
    """A client whose wait for a job runs the builder."""

    scene: Scene
    gives: bytes | None = None

    def wait_job(self, job: int, wait_s: float = 0.0) -> Job:
        self.scene.built(self.gives or self.scene.content, build_key=self.scene.key)
        return super().wait_job(job, 0.0)


def test_have_built(scene: Scene) -> None:
    client = Building("http://test", "operator", transport=scene.server, retry_for_s=0.0)
    client.scene = scene
    said: list[str] = []
    have_built(client, {"digits/0": scene.sha256}, said.append)
    assert scene.path.read_bytes() == scene.content
    assert said == [f"digits/0: building the dropped file {scene.sha256} again"]
    scene.drop()
    client.gives = b"another"
    with pytest.raises(UserError, match="digits/7.*no artifact.*digits/0: Built again"):
        have_built(client, {"digits/0": scene.sha256, "digits/7": "7" * 64})
    client.close()
