"""The builder process: a failing candidate gives a result and does not end the builder."""

import base64
import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from agents.protocol import Lease
from searcher.artifacts.store import place_artifact
from searcher.builders import process
from searcher.builders.builder import Builder
from searcher.builders.process import work
from searcher.builders.work import BUILDERS_KEPT, Workshop
from searcher.errors import BuildError, ProtocolError, TaskError, UserError
from searcher.statistics.score_codec import unpack
from searcher.tasks.base import Task
from tests.conftest import TINY
from tests.searcher_tests import models

TARGET = {"format": "onnx", "opset": 13, "ir_version": 7, "number_formats": ["float32", "int8"],
          "int8_activations": "uint8"}
STEPS = [{"strategy": "svd", "layers": "fc1", "rank_ratio": 0.25},
         {"strategy": "finetune", "layers": "model", "learning_rate": 0.01}]
COMPRESS = {"task": TINY, "recipe": STEPS, "seed": 0, "target": TARGET}


class Client:
    """Records the results that are put."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.failed: list[tuple[str, str]] = []

    def put_done(self, lease: Lease, result: Any) -> None:
        self.done.append(json.loads(json.dumps(result, allow_nan=False)))

    def put_failed(self, lease: Lease, reason: str, message: str) -> None:
        self.failed.append((reason, message))


def lease(kind: str, payload: dict[str, Any]) -> Lease:
    return Lease(1, kind, 1, 1, 60.0, 600.0, payload)


@pytest.fixture
def workshop(tiny: Task, builds: Path) -> Workshop:
    return Workshop(builds.parent)


def test_a_repaired_file_is_evaluated_and_layers_are_scanned(workshop: Workshop) -> None:
    client: Any = Client()
    work(client, workshop, lease("compress", {**COMPRESS, "repair": True}))
    work(client, workshop, lease("train", {
        **COMPRESS, "fidelity": "full", "repair": True, "epochs": {"short": 1, "full": 2}}))
    work(client, workshop, lease("scan", {
        "task": TINY, "strategy": "clustering", "seed": 0, "target": TARGET, "seconds": 60}))
    assert not client.failed
    repaired, trained, scan = client.done
    assert repaired["evaluation"]["value"] > 0.4 and trained["evaluation"]["value"] > 0.4
    assert [one["layer"] for one in scan["layers"]] == ["conv1", "conv2", "fc1", "fc2"]


def test_compress_train_evaluate(workshop: Workshop) -> None:
    client: Any = Client()
    work(client, workshop, lease("compress", COMPRESS))
    work(client, workshop, lease("train", {**COMPRESS, "fidelity": "short", "threads": 1}))
    untrained, short = client.done
    assert untrained["evaluation"] is None and untrained["built_steps"] == 1
    for result in (untrained, short):
        content = (workshop.folder / "artifacts" / result["sha256"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == result["sha256"]
        assert len(content) == result["file_bytes"]
        assert set(result) == {"build_key", "sha256", "file_bytes", "graph_key", "probe_outputs",
                               "report", "number_format", "built_steps", "reused_steps",
                               "cached_bytes", "evaluation"}
    work(client, workshop, lease("evaluate", {
        "task": TINY, "sha256": short["sha256"], "split": "validation"}))
    told = client.done[2]["evaluation"]
    (labels,) = told.pop("labels")
    assert told == short["evaluation"] and not client.failed
    assert (labels["kind"], labels["names"]) == ("class", ["0", "1", "2", "3"])
    found = short["evaluation"]
    scores = unpack(base64.b64decode(found["scores"]), found["encoding"], found["n"])
    assert scores.dtype == bool and scores.mean() == found["value"]
    assert found["low"] < found["value"] <= found["high"]


def test_inspect(workshop: Workshop) -> None:
    client: Any = Client()
    path = place_artifact(workshop.folder / "artifacts", models.linear().SerializeToString())
    work(client, workshop, lease("inspect", {"sha256": path.name}))
    assert client.done[0]["inspection"]["macs"] == 12 and not workshop._builders
    work(client, workshop, lease("inspect", {"sha256": "0" * 64}))
    assert client.failed[0][0] == "io" and "0" * 64 in client.failed[0][1]


def test_the_last_builders_stay_warm(workshop: Workshop) -> None:
    first = workshop.builder(TINY, 0)
    assert workshop.builder(TINY, 0) is first
    for seed in range(1, BUILDERS_KEPT + 1):
        workshop.builder(TINY, seed)
    assert len(workshop._builders) == BUILDERS_KEPT and workshop.builder(TINY, 0) is not first


@pytest.mark.parametrize(("payload", "reason", "said"), [
    ({**COMPRESS, "task": "lenet"}, "user", "Unknown task 'lenet'"),
    ({**COMPRESS, "recipe": [{"layers": "fc1"}]}, "user", "needs strategy"),
    ({**COMPRESS, "recipe": [*STEPS, STEPS[0], {"strategy": "svdd"}]}, "unknown_strategy",
     "Did you mean 'svd'?"),
    ({**COMPRESS, "target": {**TARGET, "colour": "red"}}, "user", "colour"),
    ({}, "user", "recipe must be a list"),
])
def test_a_bad_job_is_a_failed_job(workshop: Workshop, payload: dict[str, Any], reason: str,
                                   said: str) -> None:
    client: Any = Client()
    work(client, workshop, lease("compress", payload))
    assert not client.done and client.failed[0][0] == reason and said in client.failed[0][1]


@pytest.mark.parametrize(("error", "reason", "said"), [
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "disk_full", "Free space on this disk"),
    (OSError(errno.EDQUOT, "quota"), "disk_full", "run the same command again"),
    (OSError(errno.EIO, "bad sector"), "io", "bad sector"),
    (BuildError("the loss is nan", "nan_loss"), "nan_loss", "the loss is nan"),
    (UserError("no such data"), "user", "no such data"),
    (TaskError("training[7]: KeyError"), "task", "training[7]: KeyError"),
    (RuntimeError("shapes"), "build", "RuntimeError: shapes"),
    (MemoryError("too large"), "build", "MemoryError"),
])
def test_what_a_candidate_raises(workshop: Workshop, monkeypatch: pytest.MonkeyPatch,
                                 error: Exception, reason: str, said: str) -> None:
    def raising(self: Builder, *arguments: Any) -> None:
        raise error

    monkeypatch.setattr(Builder, "compress", raising)
    client: Any = Client()
    work(client, workshop, lease("compress", COMPRESS))
    assert client.failed[0][0] == reason and said in client.failed[0][1]
    monkeypatch.undo()
    work(client, workshop, lease("compress", COMPRESS))
    assert len(client.done) == 1, "the builder continues"


def test_the_step_that_a_note_names_arrives(
        workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(self: Builder, *arguments: Any) -> None:
        error = RuntimeError("shapes")
        error.add_note("step 2 (svd on fc1)")
        raise error

    monkeypatch.setattr(Builder, "compress", raising)
    client: Any = Client()
    work(client, workshop, lease("compress", COMPRESS))
    assert client.failed == [("build", "step 2 (svd on fc1): RuntimeError: shapes")]


@pytest.mark.parametrize(
    "place", ["searcher.artifacts.store.os.fsync", "searcher.builders.prefix_cache.os.fsync"])
def test_a_disk_that_fills(workshop: Workshop, monkeypatch: pytest.MonkeyPatch,
                           place: str) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    client: Any = Client()
    with monkeypatch.context() as context:
        context.setattr(place, full)
        work(client, workshop, lease("compress", COMPRESS))
    assert [reason for reason, _ in client.failed] == ["disk_full"] and not client.done
    work(client, workshop, lease("compress", COMPRESS))
    assert len(client.done) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the kernel's full device")
def test_a_disk_that_fills_within_torchs_own_writer(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if self.name.endswith(".partial"):
            return open("/dev/full", mode, buffering=0)
        return ordinary(self, mode, *rest, **named)

    client: Any = Client()
    with monkeypatch.context() as context:
        context.setattr(Path, "open", full)
        work(client, workshop, lease("compress", COMPRESS))
    assert [reason for reason, _ in client.failed] == ["disk_full"]


def test_a_result_that_is_refused_is_not_put_again(workshop: Workshop) -> None:
    class Stale(Client):
        def put_done(self, lease: Lease, result: Any) -> None:
            raise ProtocolError("fence 1 is stale", 409)

    client: Any = Stale()
    with pytest.raises(ProtocolError, match="stale"):
        work(client, workshop, lease("compress", COMPRESS))
    assert client.failed == []


class Ended(BaseException):
    """Raised instead of ending the process."""


class Pulse:
    """A clock, and a coordinator that answers each heartbeat with the next of ``answers``."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers, self.sent, self.waited = list(answers), 0, list[float]()

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        return not self.answers

    def heartbeat(self, lease: Lease) -> str:
        self.sent += 1
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer
        return "continue"


def test_heartbeats_until_the_job_ends() -> None:
    pulse: Any = Pulse(None, UserError("nobody answers"), None)
    process.beat(pulse, lease("train", {}), pulse)
    assert pulse.sent == 3 and pulse.waited == [15.0] * 4


def test_a_lost_lease_ends_the_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = []

    def leave(code: int) -> None:
        codes.append(code)
        raise Ended

    monkeypatch.setattr(os, "_exit", leave)
    pulse: Any = Pulse(ProtocolError("stale fence", 409))
    with pytest.raises(Ended):
        process.beat(pulse, lease("train", {}), pulse)
    assert codes == [3]
