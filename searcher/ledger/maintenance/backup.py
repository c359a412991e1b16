"""Backup of a ledger, also while a coordinator writes it, and compaction while none does."""

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from searcher.errors import LedgerError, UserError
from searcher.ledger import schema
from searcher.ledger.directory_lock import owned
from searcher.ledger.migrations import stored_version
from searcher.ledger.read_only import open_any_version
from searcher.ledger.store import Store, is_damage, translated

PAGES_PER_STEP = 1000


@dataclass(frozen=True)
class BackupCopy:
    """A backup that passed the integrity check."""

    path: Path
    size_bytes: int
    version: int
    campaigns: int
    trials: int


def backup(directory: Path, target: Path, force: bool = False) -> BackupCopy:
    """Copy the ledger of ``directory`` to ``target``, completely or not at all.

    The copy is a snapshot of one instant; a coordinator may write during the backup. Raises
    UserError for a target that exists (unless ``force``) or is not possible, LedgerError when the
    ledger cannot be read or the copy cannot be written.
    """
    source = directory / "ledger.db"
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"{target} is the ledger itself. Name another file.")
    if target.is_dir():
        raise UserError(f"{target} is a folder. Name a file, such as {target / 'ledger.db'}.")
    if target.exists() and not force:
        raise UserError(f"{target} exists already. Name another file, or write --force.")
    if not target.absolute().parent.is_dir():
        raise UserError(f"There is no folder {target.absolute().parent}. Create it first.")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open_any_version(source) as db:
            _copy(db.conn, partial)
        copied = _verified(partial, target)
        _place(partial, target)
    except (_TargetError, OSError) as error:
        raise _not_written(target, error) from error
    finally:
        for left in (partial, *(Path(f"{partial}{end}") for end in ("-wal", "-shm", "-journal"))):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
    return copied


class _TargetError(Exception):
    """The error lies in the copy, not in the ledger."""


def _copy(source: sqlite3.Connection, partial: Path) -> None:
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    target = sqlite3.connect(partial, isolation_level=None)
    try:
        # One snapshot for all steps: otherwise every commit of a coordinator restarts the copy.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        try:
            source.backup(target, pages=PAGES_PER_STEP)
            target.execute("PRAGMA journal_mode = DELETE").fetchone()
        except sqlite3.Error as error:
            if is_damage(error):
                raise
            raise _TargetError(*error.args) from error
        finally:
            source.execute("ROLLBACK")
    finally:
        target.close()


def _verified(partial: Path, target: Path) -> BackupCopy:
    """Raises LedgerError unless the copy passes the integrity check."""
    with open_any_version(partial) as db:
        said = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)")]
        if said != ["ok"]:
            raise LedgerError(f"the copy is damaged ({'; '.join(said)}): check the ledger with "
                              "fleetfront ledger check")
        counts = [int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                  for table in ("campaigns", "trials")]
        version = stored_version(db) or schema.VERSION
    return BackupCopy(target, partial.stat().st_size, version, *counts)


def _place(partial: Path, target: Path) -> None:
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(target)
    folder = os.open(target.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _not_written(target: Path, error: Exception) -> LedgerError:
    return LedgerError(
        f"The backup {target} cannot be written: {error}. Check the space on its disk and the "
        "permissions of its folder. No partial file was left; the ledger is unchanged.")


def vacuum(directory: Path) -> tuple[int, int]:
    """Rewrite the ledger without free pages. Returns its bytes before and after.

    Raises LedgerError when no ledger exists or the disk is full, UserError while another process
    owns the folder.
    """
    path = directory / "ledger.db"
    if not path.is_file():
        raise LedgerError(f"There is no ledger {path}. Run a campaign there, or name its --dir.")
    with owned(directory):
        store = Store(path)
        try:
            before = _emptied(store, path)
            store.db.execute("VACUUM")
            return before, _emptied(store, path)
        except sqlite3.Error as error:
            raise translated(error, path) from error
        finally:
            store.close()


def _emptied(store: Store, path: Path) -> int:
    """Bytes of the ledger after its whole write-ahead log was copied into it."""
    store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path.stat().st_size
