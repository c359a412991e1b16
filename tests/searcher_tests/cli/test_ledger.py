"""The commands ``fleetfront ledger``."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest

from searcher.cli.ledger import app
from searcher.ledger.directory_lock import owned
from searcher.ledger.schema import VERSION
from tests.searcher_tests.cli.conftest import Run
from tests.searcher_tests.filled import finished
from tests.searcher_tests.ledger.damage import overwrite_middle
from tests.storage import make_v1

CLI_PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return finished(tmp_path / "data")


def test_check_of_an_intact_ledger(run: Run, data: Path) -> None:
    answer = run("ledger", "check", "--dir", data)
    assert answer.code == 0 and "integrity" in answer.out and "wrong" not in answer.out
    document = json.loads(run("ledger", "check", "--dir", data, "--format", "json").out)
    assert document["served"] is False
    assert {f["state"] for f in document["findings"]} == {"ok"}
    rows = csv.DictReader(io.StringIO(
        run("ledger", "check", "--dir", data, "--deep", "--format", "csv").out))
    assert [row["check"] for row in rows][-2:] == ["samples", "rails"]


def test_check_says_what_is_wrong_and_what_to_do(run: Run, data: Path) -> None:
    for file in (data / "artifacts").iterdir():
        file.unlink()
    answer = run("ledger", "check", "--dir", data)
    assert answer.code == 1 and "missing" in answer.out and "built again" in answer.out
    overwrite_middle(data / "ledger.db")
    answer = run("ledger", "check", "--dir", data)
    assert answer.code == 1 and "fleetfront ledger backup" in " ".join(answer.out.split())
    assert "defect" not in answer.err


def test_reading_commands_refuse_a_damaged_ledger(run: Run, data: Path) -> None:
    overwrite_middle(data / "ledger.db")
    answer = run("front", "digits", "--dir", data)
    assert answer.code == 1 and "is damaged" in answer.err
    assert f"fleetfront ledger check --dir {data}" in answer.err


def test_an_old_ledger_after_check(run: Run, tmp_path: Path) -> None:
    shutil.copy(make_v1.STORED, tmp_path / "ledger.db")
    assert "fleetfront ledger check" in run("status", "--dir", tmp_path).err
    answer = run("ledger", "check", "--dir", tmp_path)
    assert f"migrated from schema version 1 to {VERSION}" in " ".join(answer.out.split())
    assert run("status", "--dir", tmp_path).code == 0


def test_check_while_it_is_served(run: Run, data: Path) -> None:
    with owned(data):
        answer = run("ledger", "check", "--dir", data, "--format", "json")
        assert answer.code == 0 and json.loads(answer.out)["served"] is True
        assert "in use by another process; the ledger was only read" in answer.err
        answer = run("ledger", "vacuum", "--dir", data)
        assert answer.code == 1 and "belongs to the running process" in answer.err


def test_backup_and_vacuum(run: Run, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    answer = run("ledger", "backup", target, "--dir", data)
    assert answer.code == 0 and "1 campaigns, 6 trials" in answer.out
    assert run("ledger", "backup", target, "--dir", data).code == 1
    assert run("ledger", "backup", target, "--dir", data, "--force").code == 0
    answer = run("ledger", "vacuum", "--dir", data)
    assert answer.code == 0 and re.search(r"[\d,]+ bytes before, [\d,]+ bytes after", answer.out)


@pytest.mark.parametrize("words", [("check",), ("backup", "copy.db"), ("vacuum",)])
def test_without_a_ledger(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                          words: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run("ledger", *words, "--dir", tmp_path / "nowhere")
    assert (answer.code, answer.out) == (1, "") and "There is no ledger" in answer.err
    assert list(tmp_path.iterdir()) == [], "nothing is made in passing"


@pytest.mark.parametrize("command", [i.name or i.callback.__name__ for i in  # type: ignore[union-attr]
                                     app.registered_commands])
def test_every_command_is_documented_with_an_example(command: str) -> None:
    found = re.search(rf"^## fleetfront ledger {command}\n(.*?)(?=^## |\Z)", CLI_PAGE.read_text(),
                      re.MULTILINE | re.DOTALL)
    assert found and f"\nfleetfront ledger {command}" in found[1]
