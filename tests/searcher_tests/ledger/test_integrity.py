"""Damage that ``ledger check`` finds; it finds none in an intact ledger."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from searcher.errors import LedgerError
from searcher.ledger.directory_lock import owned
from searcher.ledger.maintenance.integrity import CheckResult, Report, check
from searcher.ledger.store import Store
from searcher.ledger.tables import artifacts, builds, campaigns
from tests.searcher_tests.dispatch.laboratory import SPEC, Laboratory, measure_payload
from tests.searcher_tests.ledger.damage import overwrite_middle
from tests.storage import make_v1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A build, its measurement with samples, a leased job and a queued one."""
    lab = Laboratory.open(tmp_path)
    with lab.store.atomic() as db:
        campaigns.create(db, "digits", SPEC, lab.clock())
    lab.coordinator.set_campaign_state("digits", "running")
    builder, agent = lab.builder(), lab.device(hostname="elsewhere")
    lab.compress(campaign="digits")
    lab.done(builder, lab.leased(builder))
    [row] = lab.store.db.query("SELECT sha256, file_bytes AS size_bytes FROM artifacts")
    lab.coordinator.submit("measure", "device:local_cpu", measure_payload(row, row), "digits")
    lab.done(agent, lab.leased(agent))
    lab.compress(1, campaign="digits")
    lab.compress(2, campaign="digits")
    lab.leased(builder)
    lab.store.close()
    return tmp_path


def write(folder: Path, sql: str, *parameters: object) -> None:
    """Changes the ledger without foreign keys and checks, as another program might."""
    with sqlite3.connect(folder / "ledger.db") as connection:
        connection.execute(sql, parameters)
    connection.close()


def wrong(report: Report) -> list[CheckResult]:
    return [finding for finding in report.findings if finding.state == "wrong"]


def only(report: Report, name: str) -> CheckResult:
    [finding] = [f for f in report.findings if f.check == name]
    return finding


def a_file(folder: Path) -> Path:
    with sqlite3.connect(folder / "ledger.db") as connection:
        row = connection.execute("SELECT sha256 FROM builds").fetchone()
    connection.close()
    return folder / "artifacts" / row[0]


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_ledger(folder: Path, deep: bool) -> None:
    report = check(folder, deep)
    assert report.is_whole and not report.served
    assert {f.state for f in report.findings} == {"ok"}
    names = [f.check for f in report.findings]
    assert names == ["integrity", "version", "foreign keys", "tables", "references", "counters",
                     "leases", "files", *(["samples", "rails"] if deep else [])]


BREAKS = {
    "foreign keys": ("DELETE FROM recipes", "references a row of recipes"),
    "references": ("UPDATE builds SET sha256 = 'lost'", "references the unknown file lost"),
    "counters": ("UPDATE counters SET value = 1 WHERE name = 'fence'", "fence is at 1, but"),
    "leases": ("UPDATE jobs SET holder = NULL WHERE state = 'leased'",
               "leased without a holder: job 3"),
    "files": ("INSERT INTO artifacts (sha256, file_bytes, number_format, created_s) "
              "VALUES ('gone', 7, 'float32', 1.0)", "missing: gone (7 bytes)"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_another_program_broke(folder: Path, name: str) -> None:
    sql, said = BREAKS[name]
    write(folder, sql)
    report = check(folder)
    assert not report.is_whole
    finding = only(report, name)
    assert finding.state == "wrong" and said in finding.found and finding.mend


def test_tables_of_another_shape(folder: Path) -> None:
    write(folder, "DROP INDEX jobs_by_campaign")
    write(folder, "ALTER TABLE spans ADD COLUMN colour TEXT")
    write(folder, "CREATE TABLE notes (text TEXT)")
    found = only(check(folder), "tables").found
    assert found == ("index jobs_by_campaign of jobs is missing; notes is not fleetfront's; "
                     "spans is changed")


def test_a_lease_of_who_was_revoked_mends_itself(folder: Path) -> None:
    write(folder, "UPDATE agents SET revoked_s = 5.0 WHERE role = 'builder'")
    report = check(folder)
    assert report.is_whole and only(report, "leases").state == "note"


def test_files_that_are_short_changed_or_dropped(folder: Path) -> None:
    path = a_file(folder)
    content = path.read_bytes()
    path.write_bytes(b"x" * len(content))
    assert check(folder).is_whole, "only --deep reads the content"
    assert "has another content" in only(check(folder, deep=True), "files").found
    path.write_bytes(content[1:])
    assert f"not {len(content)}" in only(check(folder), "files").found
    path.unlink()
    assert path.name in only(check(folder), "files").found
    write(folder, "UPDATE artifacts SET dropped_s = 5.0 WHERE sha256 = ?", path.name)
    report = check(folder)
    assert report.is_whole and "1 dropped" in only(report, "files").found


def test_orphans_are_a_note(folder: Path) -> None:
    (folder / "artifacts" / ("f" * 64)).write_bytes(b"12345")
    (folder / "artifacts" / f".{'e' * 64}.77").write_bytes(b"123")
    report = check(folder)
    assert report.is_whole and "2 files of 8 bytes" in only(report, "orphans").found
    with owned(folder):
        assert "1 files of 5 bytes" in only(check(folder), "orphans").found


def test_samples_that_cannot_be_unpacked(folder: Path) -> None:
    write(folder, "UPDATE samples SET calls_ns = x'00'")
    assert check(folder).is_whole
    assert "measurement 1 cannot be unpacked" in only(check(folder, deep=True), "samples").found


def test_rails_that_cannot_be_unpacked(folder: Path) -> None:
    write(folder, "INSERT INTO rails VALUES (1, x'00')")
    assert check(folder).is_whole
    assert "measurement 1 cannot be unpacked" in only(check(folder, deep=True), "rails").found


def test_bytes_overwritten_in_the_middle(folder: Path) -> None:
    overwrite_middle(folder / "ledger.db")
    report = check(folder)
    assert [f.check for f in report.findings] == ["integrity"], "nothing else can be believed"
    assert not report.is_whole and "backup" in report.findings[0].mend


def test_a_file_that_is_cut_short_or_none_of_ours(folder: Path, tmp_path: Path) -> None:
    path = folder / "ledger.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    assert wrong(check(folder))[0].check == "integrity"
    path.write_bytes(b"this is a diary, not a database" * 400)
    assert wrong(check(folder))[0].check == "integrity"
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="empty"):
        check(folder)
    path.unlink()
    with pytest.raises(LedgerError, match="There is no ledger"):
        check(folder)
    assert not path.exists()


def test_a_damaged_ledger_is_not_migrated(tmp_path: Path) -> None:
    path = Path(shutil.copy(make_v1.STORED, tmp_path / "ledger.db"))
    overwrite_middle(path)
    before = path.read_bytes()
    assert wrong(check(tmp_path))[0].check == "integrity"
    assert path.read_bytes() == before


def test_while_another_serves_it_only_reads(folder: Path) -> None:
    store = Store(folder / "ledger.db")
    with owned(folder), store.atomic() as db:
        builds.put_artifact(db, "a" * 64, 1, 1.0)
        report = check(folder)
        assert report.served and report.is_whole, "what is not committed is not seen"
    with owned(folder):
        assert "missing: a" in only(check(folder), "files").found
        with store.atomic() as db:
            artifacts.drop(db, ["a" * 64], 2.0)
        assert check(folder).is_whole
    store.close()
