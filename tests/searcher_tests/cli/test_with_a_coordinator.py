"""The commands ``measure`` and ``upload`` with a coordinator."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from searcher.api.app import create_app
from searcher.benchmark.one_file import FileBenchmark
from searcher.cli.main import main
from searcher.client.http import CoordinatorClient
from tests.searcher_tests.api.local import LocalServer
from tests.searcher_tests.cli.test_commands import measured
from tests.searcher_tests.dispatch.laboratory import Laboratory


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["fleetfront", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    return call


def test_measure_elsewhere_needs_a_coordinator(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    answer = run("measure", tmp_path / "m.onnx", "--device", "tx2", "--dir", tmp_path)
    assert answer.code == 1 and "fleetfront serve" in answer.err and "'tx2'" in answer.err


@pytest.fixture
def coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laboratory]:
    """One coordinator for every address; the token of its operator is ``operator``."""
    lab = Laboratory.open(tmp_path)
    with LocalServer(create_app(lab.coordinator, "operator")) as server:
        def client(url: str, token: str, fingerprint: str | None = None) -> CoordinatorClient:
            return CoordinatorClient(url, token, transport=server)

        monkeypatch.setattr("searcher.client.http.CoordinatorClient", client)
        monkeypatch.setattr("searcher.local.process_tree.CoordinatorClient", client)
        yield lab
    lab.store.close()


def test_upload(run: Run, tmp_path: Path, coordinator: Laboratory,
                monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "digits.gz"
    file.write_bytes(b"digits" * 1000)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.delenv("FLEETFRONT_TOKEN", raising=False)
    answer = run("upload", file, "--url", "http://lab")
    assert answer.code == 1 and "FLEETFRONT_TOKEN" in answer.err
    monkeypatch.setenv("FLEETFRONT_TOKEN", "wrong")
    answer = run("upload", file, "--url", "http://lab")
    assert answer.code == 1 and "does not know this token" in answer.err
    monkeypatch.setenv("FLEETFRONT_TOKEN", "operator")
    answer = run("upload", file, "--url", "http://lab")
    assert (answer.code, answer.out) == (0, f"{sha256}\n") and "100 % sent" in answer.err
    assert (tmp_path / "artifacts" / sha256).read_bytes() == file.read_bytes()
    (tmp_path / "coordinator.json").write_text(
        '{"url": "http://lab", "token": "operator", "pid": 1}')
    assert run("upload", file, "--dir", tmp_path).out == f"{sha256}\n"
    answer = run("upload", file, "--dir", tmp_path / "nowhere")
    assert answer.code == 1 and "No coordinator serves" in answer.err


def test_measure_with_a_coordinator(run: Run, tmp_path: Path, coordinator: Laboratory,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def measure_on(client: Any, model: Path, device: str | None, plan: Any, say: Any,
                   queue_s: float | None, execution: Any) -> FileBenchmark:
        asked.append((client.url, device, queue_s))
        say("measuring on tx2")
        say("measuring on tx2")
        return measured(model, model, plan, execution)

    monkeypatch.setattr("searcher.benchmark.one_file.measure_on", measure_on)
    monkeypatch.setenv("FLEETFRONT_TOKEN", "operator")
    command = ("measure", "m.onnx", "--plan", "quick")
    answer = run(*command, "--url", "http://lab", "--device", "tx2")
    assert answer.code == 0 and answer.err == "measuring on tx2\n"
    assert "24 quiet blocks" in answer.out
    (tmp_path / "coordinator.json").write_text(
        '{"url": "http://here", "token": "operator", "pid": 1}')
    patient = ("--queue-s", "60", "--format", "json")
    assert json.loads(run(*command, "--dir", tmp_path, *patient).out)["n"] == 24
    assert asked == [("http://lab", "tx2", None), ("http://here", None, 60.0)]
