"""Backups during writes, on full disks and over existing files; vacuum."""

import os
import resource
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from searcher.errors import LedgerError, UserError
from searcher.ledger.directory_lock import owned
from searcher.ledger.maintenance import backup as copies
from searcher.ledger.maintenance.backup import backup, vacuum
from searcher.ledger.read_only import open_ledger
from searcher.ledger.store import Store
from searcher.ledger.tables import campaigns, jobs
from tests.searcher_tests.dispatch.laboratory import SPEC
from tests.searcher_tests.ledger.damage import overwrite_middle

BALLAST = "x" * 2000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A ledger with pages for several steps."""
    (tmp_path / "lab").mkdir()
    opened = Store(tmp_path / "lab" / "ledger.db")
    with opened.atomic() as db:
        campaigns.create(db, "digits", SPEC, 1.0)
        for number in range(300):
            add(opened, number)
    yield opened
    opened.close()


def add(store: Store, number: int) -> None:
    with store.atomic() as db:
        jobs.create(db, f"key {number}", "compress", "builder", "digits",
                    {"ballast": BALLAST}, 0, 1.0)


def count(path: Path) -> int:
    with open_ledger(path) as db:
        return int(db.execute("SELECT count(*) FROM jobs").fetchone()[0])


def left_behind(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != "lab")


def test_a_backup_is_whole_private_and_one_file(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    made = backup(tmp_path / "lab", target)
    assert (made.path, made.campaigns, made.size_bytes) == (target, 1, target.stat().st_size)
    assert count(target) == 300
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert left_behind(tmp_path) == ["copy.db"], "no -wal beside it"


def test_it_is_one_instant_while_a_coordinator_writes(
        store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PAGES_PER_STEP", 8)
    left: list[int] = []

    class Watched(sqlite3.Connection):
        """Commits between two steps, as a coordinator does."""

        def backup(self, target, **more):  # type: ignore[no-untyped-def,override]
            super().backup(target, progress=self._between, **more)

        def _between(self, status: int, remaining: int, total: int) -> None:
            left.append(remaining)
            add(store, 1000 + len(left))

    source = sqlite3.connect(
        tmp_path / "lab" / "ledger.db", factory=Watched, isolation_level=None)
    copies._copy(source, tmp_path / "copy.db")
    source.close()
    assert len(left) > 5 and left == sorted(left, reverse=True), "the backup never restarts"
    assert count(tmp_path / "copy.db") == 300
    assert count(tmp_path / "lab" / "ledger.db") == 300 + len(left)


def test_other_files_are_not_overwritten(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("my diary")
    with pytest.raises(UserError, match="exists already.*--force"):
        backup(tmp_path / "lab", target)
    assert target.read_text() == "my diary"
    backup(tmp_path / "lab", target, force=True)
    assert count(target) == 300
    for force in (False, True):
        with pytest.raises(UserError, match="the ledger itself"):
            backup(tmp_path / "lab", tmp_path / "lab" / "ledger.db", force)
    with pytest.raises(UserError, match="is a folder"):
        backup(tmp_path / "lab", tmp_path / "lab", True)
    with pytest.raises(UserError, match="There is no folder"):
        backup(tmp_path / "lab", tmp_path / "absent" / "copy.db")
    with pytest.raises(LedgerError, match="There is no ledger"):
        backup(tmp_path, tmp_path / "other.db")


def test_a_damaged_ledger_is_not_passed_on(store: Store, tmp_path: Path) -> None:
    store.close()
    overwrite_middle(tmp_path / "lab" / "ledger.db")
    target = tmp_path / "copy.db"
    target.write_text("the last good one")
    with pytest.raises(LedgerError, match="ledger check"):
        backup(tmp_path / "lab", target, force=True)
    assert target.read_text() == "the last good one"
    assert left_behind(tmp_path) == ["copy.db"]


def test_a_full_disk_leaves_nothing(store: Store, tmp_path: Path) -> None:
    """A limit on the file size simulates a full disk, in a separate process."""
    script = ("import resource, sys; from pathlib import Path\n"
              "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
              "from searcher.cli.main import main\n"
              "sys.argv = ['fleetfront', 'ledger', 'backup', sys.argv[2], '--dir', sys.argv[1]]\n"
              "main()\n")
    target = tmp_path / "copy.db"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "lab"), str(target)],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert f"The backup {target} cannot be written" in ended.stderr
    assert "disk" in ended.stderr
    assert left_behind(tmp_path) == []


def test_vacuum_gives_space_back(store: Store, tmp_path: Path) -> None:
    with store.atomic() as db:
        db.execute("DELETE FROM jobs WHERE id > 10")
    store.close()
    before, after = vacuum(tmp_path / "lab")
    assert after < before / 3 and after == (tmp_path / "lab" / "ledger.db").stat().st_size
    assert count(tmp_path / "lab" / "ledger.db") == 10


def test_vacuum_needs_a_folder_of_its_own(store: Store, tmp_path: Path) -> None:
    with owned(tmp_path / "lab"), pytest.raises(UserError, match=f"process {os.getpid()}"):
        vacuum(tmp_path / "lab")
    with pytest.raises(LedgerError, match="There is no ledger"):
        vacuum(tmp_path)
    assert not (tmp_path / "lock").exists()
