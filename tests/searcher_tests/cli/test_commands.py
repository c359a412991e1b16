"""Every command: output, error stream and exit code."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.protocol import MeasurePlan
from searcher.benchmark.one_file import FileBenchmark
from searcher.benchmark.two_files import FileComparison, TimedLook
from searcher.cli.main import app, main
from searcher.cli.progress import Progress, headline
from searcher.results.formatting import bytes_text, time_text
from searcher.results.front import Front
from searcher.results.view import Reading
from searcher.spec.runtime_options import Execution
from tests.conftest import TINY
from tests.searcher_tests.cli.conftest import Run
from tests.searcher_tests.filled import Folder, finished


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("data"))


READING = {
    "front": ("front",), "front of": ("front", "digits", "--device", "local_cpu"),
    "show": ("show", "digits/1"), "show failed": ("show", "digits/4"),
    "status": ("status",), "strategies": ("strategies",), "doctor": ("doctor",),
    "profiles": ("profiles",), "profiles of": ("profiles", "jetson_tx2"),
}


def words(name: str, data: Path) -> tuple[object, ...]:
    nowhere = READING[name][0] in ("strategies", "profiles")
    return (*READING[name], *(() if nowhere else ("--dir", data)))


@pytest.mark.parametrize("name", READING)
def test_json_of_every_reading_command(run: Run, data: Path, name: str) -> None:
    answer = run(*words(name, data), "--format", "json")
    assert (answer.code, answer.err) == (0, "") and json.loads(answer.out)


@pytest.mark.parametrize("name", READING)
def test_csv_of_every_reading_command(run: Run, data: Path, name: str) -> None:
    answer = run(*words(name, data), "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert answer.code == 0 and all(None not in row for row in rows)
    assert rows or name == "show failed" or answer.out.strip() != ""


@pytest.mark.parametrize("name", READING)
def test_tables_of_every_reading_command(run: Run, data: Path, name: str) -> None:
    answer = run(*words(name, data))
    assert answer.code == 0 and len(answer.out.splitlines()) >= 2


def test_a_profile_lists_facts_with_sources(run: Run) -> None:
    document = json.loads(run("profiles", "jetson_tx2", "--format", "json").out)
    assert document["opset"] == 16 and document["rails"]["total"] == ["VDD_IN"]
    rows = list(csv.DictReader(io.StringIO(run("profiles", "jetson_tx2", "--format", "csv").out)))
    assert {row["fact"] for row in rows} == set(document["sources"])
    assert all(row["source"] == document["sources"][row["fact"]] for row in rows)
    assert "POM_5V_IN" in run("profiles").out
    answer = run("profiles", "jetson_tx9")
    assert answer.code == 1 and "Unknown device profile 'jetson_tx9'" in answer.err


# -- front ---------------------------------------------------------------------------------------


def test_front_prints_all_figures(run: Run, data: Path) -> None:
    assert json.loads(run("front", "--dir", data, "--format", "json").out) == Reading(data).front(
        "digits").as_document()
    rows = list(csv.DictReader(io.StringIO(run("front", "--dir", data, "--format", "csv").out)))
    assert [row["candidate"] for row in rows] == ["baseline", "digits/1", "digits/0"]
    assert rows[1]["file_bytes"] == "500" and len(rows[1]["sha256"]) == 64


def test_the_table_keeps_layer_groups_and_intervals(run: Run, data: Path) -> None:
    text = "".join(run("front", "--dir", data).out.split())
    for said in ("channel_pruning[convolutions](keep_ratio=0.5,", "97.00%[93.6%..98.6%]", "4.00x",
                 "8.0x", "baseline", "measuredwithonnxruntime,CPUExecutionProvider,1thread"):
        assert said in text


def test_front_filters_and_saves(run: Run, data: Path, tmp_path: Path) -> None:
    answer = run("front", "--dir", data, "--where", "latency_s<0.0004 and file_bytes<1e6",
                 "--save", tmp_path / "files", "--format", "json")
    assert [p["candidate"] for p in json.loads(answer.out)["points"]] == ["digits/1"]
    saved = {p.name: p.read_bytes() for p in (tmp_path / "files").iterdir()}
    assert saved == {"baseline.onnx": b"baseline", "digits-1.onnx": b"digits 1"}


@pytest.mark.parametrize(("where", "said"), [
    ("latency<1", "Did you mean 'latency_s'?"), ("latency_s=1", "must read like"),
    ("latency_s<1 or file_bytes<2", "must read like"), ("latency_s<1.1.1", "is no number"),
    ("  ", "must read like")])
def test_a_bad_condition(run: Run, data: Path, where: str, said: str) -> None:
    answer = run("front", "--dir", data, "--where", where)
    assert (answer.code, answer.out) == (1, "") and said in answer.err


# -- show ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "said"), [
    (0, "on the front: no other candidate"),
    (2, "not on the front: digits/1, digits/0 is no worse"),
    (3, "not on the front: cannot reach the front: it is too slow"),
    (4, "not on the front: nan_loss"),
    (5, "not on the front: breaks a constraint"),
    (0, "measured on local_cpu with onnxruntime, CPUExecutionProvider: valid"),
])
def test_show_says_why(run: Run, data: Path, number: int, said: str) -> None:
    assert said in run("show", f"digits/{number}", "--dir", data).out


def test_show_has_layers_measurements_and_files(run: Run, data: Path) -> None:
    document = json.loads(run("show", "digits/1", "--dir", data, "--format", "json").out)
    assert document["fidelity"] == "full" and document["macs"] == 500
    assert document["layers"][0]["name"] == "fc1" and document["measurements"][0]["n"] == 400
    assert Path(document["artifact"]).read_bytes() == b"digits 1"
    text = run("show", "digits/1", "--dir", data).out
    assert "channel_pruning[convolutions]" in text and "ratio 0.2500" in text and "fc1" in text


# -- the other commands --------------------------------------------------------------------------


def test_status(run: Run, data: Path) -> None:
    document = json.loads(run("status", "--dir", data, "--format", "json").out)
    assert document["trials"] == {"running": 0, "complete": 4, "pruned": 1, "failed": 1}
    row = next(csv.DictReader(io.StringIO(run("status", "--dir", data, "--format", "csv").out)))
    assert (row["state"], row["complete"], row["remaining_s"]) == ("done", "4", "0.0")


def test_strategies(run: Run) -> None:
    from strategies.catalog import names

    rows = json.loads(run("strategies", "--format", "json").out)
    assert [row["strategy"] for row in rows] == list(names())
    assert all(row["paper"] and row["limits"] and row["summary"] for row in rows)


def test_complexity_and_build(run: Run, builds: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        '[[step]]\nstrategy = "svd"\nlayers = "fc1"\nrank_ratio = 0.25\n')
    answer = run("build", tmp_path / "r.toml", "--task", TINY, "--fidelity", "untrained",
                 "-o", tmp_path / "out", "--dir", tmp_path)
    assert answer.code == 0 and "smaller than the baseline" in answer.out, answer.err
    model = tmp_path / "out" / "model.onnx"
    document = json.loads(run("complexity", model, "--format", "json").out)
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert document["macs"] == figures["values"]["macs"]
    rows = list(csv.DictReader(io.StringIO(run("complexity", model, "--format", "csv").out)))
    assert len(rows) == len(document["layers"]) == 5
    assert "parameters" in run("complexity", model).out


def test_report(run: Run, data: Path, tmp_path: Path) -> None:
    answer = run("report", "digits", "--dir", data, "-o", tmp_path / "deep" / "report.html")
    assert answer.code == 0 and (tmp_path / "deep" / "report.html").is_file()
    assert answer.out.strip() == str(tmp_path / "deep" / "report.html")


def measured(path: Path, directory: Path, plan: MeasurePlan, execution: Execution) -> FileBenchmark:
    assert plan.name == "quick"
    return FileBenchmark(
        {"latency_s": 1e-3, "latency_p99_s": None, "memory_bytes": 1_000_000},
        {"latency_s": [0.9e-3, 1.1e-3]}, 24, "valid", ["only a test"], ["nodes: 3 on CPU"],
        str(execution), {})


def test_measure(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searcher.local.measure.measure_file", measured)
    command = ("measure", "m.onnx", "--plan", "quick", "--dir", tmp_path)
    text = run(*command).out
    assert "24 quiet blocks" in text and "insufficient" in text and "1,000,000" in text
    assert "[900 us .. 1.1 ms]" in text and "warning: only a test" in text
    assert "  nodes: 3 on CPU" in text and "(onnxruntime, CPUExecutionProvider, 1 thread)" in text
    text = run(*command, "--threads", "2", "--graph-level", "basic").out
    assert "2 threads, graph level basic" in text
    assert json.loads(run(*command, "--format", "json").out)["n"] == 24
    row = next(csv.DictReader(io.StringIO(run(*command, "--format", "csv").out)))
    assert (row["latency_s"], row["latency_p99_s"], row["verdict"]) == ("0.001", "", "valid")


def test_measure_against_another(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(model: Path, other: Path, directory: Path, seconds: float,
                 say: Any, execution: Execution) -> FileComparison:
        look = TimedLook(False, 1.031, 1e-3, 60, 1.2, ())
        return FileComparison(
            str(model), str(other), 1.031, [1.02, 1.04], "slower", [look] * 4, seconds,
            ["hot (in 1 of 4 looks)"], str(execution), {})

    monkeypatch.setattr("searcher.local.measure.compare_files", compared)
    command = ("measure", "m.onnx", "--against", "o.onnx", "--seconds", "5", "--dir", tmp_path)
    text = run(*command).out
    assert "m.onnx against o.onnx: slower" in text and "1.0310  [1.0200 .. 1.0400]" in text
    assert "4 looks, 5.0 s" in text and "warning: hot" in text
    assert json.loads(run(*command, "--format", "json").out)["interval"] == [1.02, 1.04]


def test_run_prints_the_front_and_its_paths(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def campaign(file: Path, directory: Path, show: Any, workers: str | None, say: Any) -> Front:
        say("baseline: the model as the task gives it")
        show(Reading(data).status("digits", 150.0), None)
        return Reading(data).front("digits")

    monkeypatch.setattr("searcher.local.run.run_campaign", campaign)
    answer = run("run", "campaign.toml", "--dir", data)
    assert answer.code == 0 and "digits/1" in answer.out
    assert str(data / "digits" / "front.json") in answer.out
    assert "4 complete" in answer.err and "training and measuring the baseline" in answer.err
    assert answer.err.startswith("baseline: the model as the task gives it\n")


# -- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "said"), [
    (("front", "digit"), "Did you mean 'digits'?"),
    (("front", "--device", "tx2"), "no device 'tx2'"),
    (("front", "--format", "xml"), "xml"),
    (("show", "digits/77"), "from 0 to 5"),
    (("show",), "candidate"),
    (("status", "nothing"), "No campaign 'nothing'"),
    (("report", "nothing"), "No campaign 'nothing'"),
    (("fronts",), "fronts"),
    (("front", "--colour"), "--colour"),
    (("build", "digits/77", "-o", "o"), "from 0 to 5"),
    (("complexity", "absent.onnx"), "There is no file absent.onnx"),
    (("measure", "absent.onnx"), "There is no file absent.onnx"),
    (("measure", "absent.onnx", "--plan", "slow"), "Unknown measurement plan 'slow'"),
    (("run", "absent.toml"), "no campaign file absent.toml"),
])
def test_user_errors_exit_with_1(
    run: Run, data: Path, command: tuple[str, ...], said: str
) -> None:
    takes_no_folder = command[0] in ("complexity", "fronts")
    answer = run(*command, *(() if takes_no_folder else ("--dir", data)))
    assert answer.code == 1 and said in answer.err and "Traceback" not in answer.err


@pytest.mark.parametrize("command", [("front",), ("status",), ("show", "a/0"), ("report",)])
def test_a_folder_without_a_ledger(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    answer = run(*command, "--dir", tmp_path)
    assert answer.code == 1 and "There is no ledger" in answer.err and not list(tmp_path.iterdir())


def test_a_damaged_ledger(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is no database" * 100)
    answer = run("front", "--dir", tmp_path)
    assert answer.code == 1 and "ledger.db" in answer.err


def test_a_file_that_is_no_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"garbage")
    answer = run("complexity", tmp_path / "m.onnx")
    assert answer.code == 1 and "m.onnx" in answer.err


def test_a_lost_artifact_is_named(run: Run, tmp_path: Path) -> None:
    finished(tmp_path)
    for file in (tmp_path / "artifacts").iterdir():
        file.unlink()
    answer = run("front", "--dir", tmp_path, "--save", tmp_path / "files")
    assert answer.code == 1 and str(tmp_path / "artifacts") in answer.err


def test_a_campaign_without_a_baseline(run: Run, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.campaign(baseline=False, state="running")
    folder.close()
    answer = run("front", "--dir", tmp_path)
    assert answer.code == 1 and "no measured baseline yet" in answer.err
    assert run("status", "--dir", tmp_path).code == 0


def broken(*arguments: Any, **named: Any) -> None:
    raise ZeroDivisionError("our fault")


def test_a_defect_exits_with_2(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reading, "front", broken)
    answer = run("front", "--dir", data)
    assert answer.code == 2 and "ZeroDivisionError: our fault" in answer.err
    assert "FLEETFRONT_DEBUG=1" in answer.err and "Traceback" not in answer.err
    monkeypatch.setenv("FLEETFRONT_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["fleetfront", "front", "--dir", str(data)])
    with pytest.raises(ZeroDivisionError):
        main()


def test_ctrl_c_says_how_to_continue(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reading, "front", interrupted)
    answer = run("front", "--dir", data)
    assert answer.code == 130 and "Run the same command again to continue" in answer.err


def test_a_failed_check_exits_doctor_with_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def _space(directory: Path) -> tuple[str, str, str]:
        return "fails", "no space", "buy a disk"

    monkeypatch.setattr("searcher.cli.doctor.CHECKS", (_space,))
    answer = run("doctor", "--dir", tmp_path, "--format", "json")
    assert answer.code == 1 and json.loads(answer.out) == [
        {"check": "space", "state": "fails", "found": "no space", "fix": "buy a disk"}]


def test_help_names_every_command(run: Run) -> None:
    answer = run("--help")
    assert answer.code == 0
    for command in app.registered_commands:
        assert f"{command.name}" in answer.out
        assert command.callback is not None and command.callback.__doc__
        assert run(command.name, "--help").code == 0


# -- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("found", "text"), [
    (time_text(26.1e-6), "26.1 us"), (time_text(1.234e-3), "1.23 ms"), (time_text(2.0), "2 s"),
    (bytes_text(999), "999 B"), (bytes_text(21_300), "21.3 KB"), (bytes_text(2.5e6), "2.5 MB"),
    (bytes_text(3e9), "3 GB")])
def test_units(found: str, text: str) -> None:
    assert found == text


def test_progress_without_a_terminal_is_an_occasional_line(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = Reading(data)
    status, front = reading.status("digits", 150.0), reading.front("digits")
    with Progress(data) as progress:
        for _ in range(3):
            progress.show(status, front)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "baseline accuracy 99.00%, 1 ms" in lines[0]
    best = headline(status, front).splitlines()[1]
    assert "4.00x faster" in best and "8x smaller (500 B)" in best and "digits/1" in best
