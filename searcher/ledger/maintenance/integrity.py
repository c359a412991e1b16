"""Integrity checks of a ledger: its file, tables, artifacts, jobs and counters."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import zstandard
from sqlite_utils import Database

from searcher.errors import LedgerError, UserError
from searcher.ledger import schema
from searcher.ledger.directory_lock import owned
from searcher.ledger.migrations import stored_version
from searcher.ledger.read_only import open_any_version, open_ledger
from searcher.ledger.store import Store
from searcher.ledger.tables import measurements

State = Literal["ok", "note", "wrong"]
SHOWN = 3
FROM_BACKUP = ("stop what serves it and put a backup in its place (fleetfront ledger backup makes "
               "them); without one: sqlite3 ledger.db .recover")


@dataclass(frozen=True)
class CheckResult:
    """The result of one check. A ``note`` needs no action; ``mend`` says what to do otherwise."""

    check: str
    state: State
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Report:
    """The results of all checks. ``served``: another process owns the folder, therefore nothing
    was changed."""

    served: bool
    findings: list[CheckResult]

    @property
    def is_whole(self) -> bool:
        return all(finding.state != "wrong" for finding in self.findings)


def check(directory: Path, deep: bool = False) -> Report:
    """Migrate the ledger of ``directory`` unless another process serves it, and check it.

    ``deep`` also reads every artifact and all stored samples and rails. Raises LedgerError when
    there is no ledger, or when the file is not one that this version can read.
    """
    path = directory / "ledger.db"
    if not path.is_file():
        raise LedgerError(f"There is no ledger {path}. Run a campaign there, or name its --dir.")
    with ExitStack() as stack:
        served = False
        try:
            stack.enter_context(owned(directory))
        except UserError:
            served = True
        findings = [_integrity(path)]
        if findings[0].state == "wrong":
            return Report(served, findings)
        if not served:
            findings.append(_up_to_date(path))
        with open_ledger(path) as db:
            findings += _all_checks(db, directory / "artifacts", served, deep)
    return Report(served, findings)


def _integrity(path: Path) -> CheckResult:
    """SQLite's integrity check, before anything is written."""
    try:
        with open_any_version(path) as db:
            said = [str(row[0]) for row in db.execute("PRAGMA integrity_check(20)")]
    except LedgerError as error:
        if not isinstance(error.__cause__, sqlite3.Error):
            raise
        said = [str(error.__cause__)]
    if said == ["ok"]:
        return CheckResult("integrity", "ok", "every page and index is intact")
    return CheckResult("integrity", "wrong", _first_few(said), FROM_BACKUP)


def _up_to_date(path: Path) -> CheckResult:
    with open_any_version(path) as db:
        before = stored_version(db)
    Store(path).close()
    if before == schema.VERSION:
        return CheckResult("version", "ok", f"schema version {before}")
    return CheckResult("version", "note",
                       f"migrated from schema version {before} to {schema.VERSION}")


def _all_checks(db: Database, artifacts: Path, served: bool, deep: bool) -> Iterator[CheckResult]:
    yield _foreign_keys(db)
    yield _tables(db)
    yield _references(db)
    yield _counters(db)
    yield from _leases(db)
    yield from _files(db, artifacts, served, deep)
    if deep:
        yield _unpacked(db, "samples", measurements.samples)
        yield _unpacked(db, "rails", measurements.rails)


def _foreign_keys(db: Database) -> CheckResult:
    rows = db.execute("PRAGMA foreign_key_check").fetchall()
    if not rows:
        return CheckResult("foreign keys", "ok", "every referenced row exists")
    said = [f"{row[0]} row {row[1]} references a row of {row[2]} that does not exist"
            for row in rows]
    return CheckResult("foreign keys", "wrong", _first_few(said), FROM_BACKUP)


def tables_of(db: Database) -> dict[str, object]:
    """Columns of every table and index, independent of the statements that created them."""
    names = [row[0] for row in db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    indexes = db.execute(
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    return {
        **{name: [tuple(c)[1:] for c in db.execute(f"PRAGMA table_info({name})")]
           for name in names},
        **{f"index {name} of {table}": [tuple(c) for c in db.execute(f"PRAGMA index_info({name})")]
           for name, table in indexes.fetchall()}}


def _tables(db: Database) -> CheckResult:
    fresh = Database(sqlite3.connect(":memory:"), execute_plugins=False)
    for statement in schema.STATEMENTS:
        fresh.execute(statement)
    wanted, found = tables_of(fresh), tables_of(db)
    fresh.close()
    odd = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if not odd:
        return CheckResult("tables", "ok", f"as in schema version {schema.VERSION}")
    said = [f"{name} is {_how(name in wanted, name in found)}" for name in odd]
    return CheckResult("tables", "wrong", _first_few(said), "undo what another program changed, or "
                       + FROM_BACKUP)


def _how(wanted: bool, found: bool) -> str:
    return "missing" if not found else "changed" if wanted else "not fleetfront's"


def _references(db: Database) -> CheckResult:
    """Files that builds and trials reference without a foreign key."""
    said = [f"{table[:-1]} {row[0]} references the unknown file {row[1]}"
            for table, key in (("builds", "key"), ("trials", "id"))
            for row in db.execute(
                f"SELECT t.{key}, t.sha256 FROM {table} t WHERE t.sha256 IS NOT NULL AND NOT "
                "EXISTS (SELECT 1 FROM artifacts a WHERE a.sha256 = t.sha256)")]
    if not said:
        return CheckResult("references", "ok", "every build and trial references a known file")
    return CheckResult("references", "wrong", _first_few(said), FROM_BACKUP)


def _counters(db: Database) -> CheckResult:
    said = []
    for counter, column in (("fence", "fence"), ("finished", "finished_seq")):
        row = db.execute("SELECT value FROM counters WHERE name = ?", [counter]).fetchone()
        used = db.execute(f"SELECT coalesce(max({column}), 0) FROM jobs").fetchone()[0]
        if row is None or row[0] < used:
            said.append(f"{counter} is at {row and row[0]}, but {used} is in use")
    if not said:
        return CheckResult("counters", "ok", "no number will be assigned twice")
    return CheckResult("counters", "wrong", _first_few(said), FROM_BACKUP)


def _leases(db: Database) -> Iterator[CheckResult]:
    nobody = [f"job {row[0]}" for row in db.execute(
        """SELECT id FROM jobs WHERE state = 'leased'
           AND (holder IS NULL OR fence IS NULL OR lease_expires_s IS NULL)""")]
    gone = [f"job {row[0]} by {row[1]}" for row in db.execute(
        """SELECT j.id, a.name FROM jobs j JOIN agents a ON a.id = j.holder
           WHERE j.state = 'leased' AND a.revoked_s IS NOT NULL""")]
    if nobody:
        yield CheckResult("leases", "wrong", f"leased without a holder: {_first_few(nobody)}",
                          "start the coordinator: it queues them again")
    elif gone:
        yield CheckResult("leases", "note", f"leased by a revoked agent: {_first_few(gone)}",
                          "nothing: the coordinator queues them again when the lease ends")
    else:
        yield CheckResult("leases", "ok", "every leased job has a holder")


def _files(db: Database, artifacts: Path, served: bool, deep: bool) -> Iterator[CheckResult]:
    there = {p.name: p.stat().st_size for p in artifacts.iterdir()} if artifacts.is_dir() else {}
    missing, damaged, dropped, known = [], [], 0, set()
    for sha256, file_bytes, gone in db.execute(
            "SELECT sha256, file_bytes, dropped_s FROM artifacts").fetchall():
        known.add(sha256)
        if sha256 not in there:
            dropped += gone is not None
            if gone is None and not _exists_now(db, artifacts / sha256):
                missing.append(f"{sha256} ({file_bytes} bytes)")
        elif there[sha256] != file_bytes:
            damaged.append(f"{sha256} has {there[sha256]} bytes, not {file_bytes}")
        elif deep and _digest(artifacts / sha256) not in (sha256, None):
            damaged.append(f"{sha256} has another content")
    orphans = {name: size for name, size in there.items() if name not in known
               and not (served and name.startswith("."))}
    if missing:
        yield CheckResult("files", "wrong", f"missing: {_first_few(missing)}",
                          "restore them; built files can be built again while the folder is served")
    if damaged:
        yield CheckResult("files", "wrong", f"damaged: {_first_few(damaged)}",
                          "delete these files, then serve the folder and build them again")
    if not missing and not damaged:
        how = "read and compared" if deep else "present with the right size"
        yield CheckResult("files", "ok",
                          f"{len(known) - dropped} {how}, {dropped} dropped (rebuilt on demand)")
    if orphans:
        yield CheckResult("orphans", "note",
                          f"{len(orphans)} files of {sum(orphans.values())} bytes "
                          f"in {artifacts} are not in the ledger: {_first_few(orphans)}",
                          "delete them while no process serves the folder, to free space")


def _exists_now(db: Database, path: Path) -> bool:
    """A second look, because files come and go while a coordinator serves the folder."""
    row = db.execute("SELECT dropped_s FROM artifacts WHERE sha256 = ?", [path.name]).fetchone()
    return path.exists() or row[0] is not None


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _unpacked(db: Database, table: str, read: Callable[[Database, int], object]) -> CheckResult:
    """Whether every blob of ``table`` can be unpacked."""
    said, count = [], 0
    for (measurement,) in db.execute(f"SELECT measurement FROM {table}").fetchall():
        count += 1
        try:
            read(db, measurement)
        except (zstandard.ZstdError, ValueError, TypeError) as error:
            said.append(f"those of measurement {measurement} cannot be unpacked ({error})")
    if not said:
        return CheckResult(table, "ok", f"those of {count} measurements can be read")
    return CheckResult(table, "wrong", _first_few(said), FROM_BACKUP)


def _first_few(said: Iterable[str]) -> str:
    """The first ``SHOWN`` texts and the number of the others."""
    every = list(said)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return "; ".join(every[:SHOWN]) + more


