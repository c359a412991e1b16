"""Commands on a folder with dropped files."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from searcher.client.records import Job
from searcher.results.view import Reading
from tests.searcher_tests.cli.conftest import Run
from tests.searcher_tests.filled import finished


@pytest.fixture
def dropped(tmp_path: Path) -> tuple[Path, str]:
    """A finished folder in which the file of candidate 1 is dropped, and the file's sha256."""
    directory = finished(tmp_path / "data")
    [gone] = [p for p in Reading(directory).front("digits").points if p.candidate == "digits/1"]
    gone.artifact.unlink()
    return directory, gone.sha256


def test_save_names_dropped_files_and_saves_the_others(
        run: Run, dropped: tuple[Path, str], tmp_path: Path) -> None:
    directory, sha256 = dropped
    answer = run("front", "--dir", directory, "--save", tmp_path / "files")
    assert answer.code == 1
    assert f"digits/1 ({sha256})" in answer.err and "fleetfront build digits/1" in answer.err
    assert f"fleetfront serve --dir {directory}" in answer.err
    assert sorted(p.name for p in (tmp_path / "files").iterdir()) == [
        "baseline.onnx", "digits-0.onnx"]
    (directory / "coordinator.json").write_text(
        '{"url": "http://127.0.0.1:9", "token": "x", "pid": 1}')
    answer = run("front", "--dir", directory, "--save", tmp_path / "files")
    assert answer.code == 1 and "fleetfront serve" in answer.err, "the address of one that died"


def test_the_report_names_dropped_files(
        run: Run, dropped: tuple[Path, str], tmp_path: Path) -> None:
    directory, sha256 = dropped
    page = tmp_path / "report.html"
    assert run("report", "--dir", directory, "-o", page).code == 0
    text = page.read_text()
    note = text[text.index("dropped to bound the disk"):][:400]
    assert f"digits/1 (<code>{sha256}</code>)" in note and "digits/0" not in note
    (directory / "artifacts" / sha256).write_bytes(b"digits 1")
    run("report", "--dir", directory, "-o", page)
    assert "dropped to bound the disk" not in page.read_text()


def test_show_marks_a_missing_file(run: Run, dropped: tuple[Path, str]) -> None:
    directory, sha256 = dropped
    assert f"{sha256} (missing" in run("show", "digits/1", "--dir", directory).out
    assert "(missing" not in run("show", "digits/0", "--dir", directory).out


class Serving:
    """A coordinator that builds a file immediately on request."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, *error: object) -> None:
        return

    def healthy(self) -> bool:
        return True

    def rebuild(self, sha256: str) -> Job:
        (self.directory / "artifacts" / sha256).write_bytes(b"digits 1")
        return Job(1, "done", result={"sha256": sha256})


def test_save_requests_builds_from_a_coordinator(
        run: Run, dropped: tuple[Path, str], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    directory, sha256 = dropped
    monkeypatch.setattr("searcher.client.http.connect", Serving)
    answer = run("front", "--dir", directory, "--save", tmp_path / "files", "--format", "json")
    assert answer.code == 0 and f"digits/1: building the dropped file {sha256}" in answer.err
    assert json.loads(answer.out)["points"]
    saved = {p.name: p.read_bytes() for p in (tmp_path / "files").iterdir()}
    assert saved["digits-1.onnx"] == b"digits 1" and len(saved) == 3


def test_build_compares_its_file_with_the_dropped_one(
        run: Run, dropped: tuple[Path, str], trained_folder: Path, tmp_path: Path) -> None:
    directory, sha256 = dropped
    shutil.copytree(trained_folder, directory / "builds")
    words = ("build", "digits/1", "--dir", directory, "-o", tmp_path / "out")
    answer = run(*words)
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert answer.code == 0 and figures["dropped"] == {"sha256": sha256, "same_bytes": False}
    assert f"the file {sha256} of digits/1 was dropped" in answer.out
    assert f"the new file differs: {figures['sha256']}" in answer.out
    assert "for the profile local_cpu (local_cpu): opset 13, IR 7" in answer.out
    with sqlite3.connect(directory / "ledger.db") as connection:
        connection.execute(
            "UPDATE trials SET sha256 = ? WHERE sha256 = ?", [figures["sha256"], sha256])
    connection.close()
    assert "the new file is identical" in run(*words).out
    kept = run("build", "digits/0", "--dir", directory, "-o", tmp_path / "out")
    assert kept.code == 0 and "dropped" not in kept.out
