"""Read-only access to the ledger, for commands, reports and exports."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlite_utils import Database

from searcher.errors import LedgerError
from searcher.ledger import schema
from searcher.ledger.migrations import refuse_newer, stored_version
from searcher.ledger.store import BUSY_TIMEOUT_S, is_damage


@contextmanager
def open_ledger(path: Path) -> Iterator[Database]:
    """A read-only connection for the query functions of this package.

    It sees every commit so far and nothing of a running transaction. It works while a coordinator
    writes. Raises LedgerError when the ledger is missing, damaged or of another version.
    """
    with open_any_version(path) as db:
        found = stored_version(db)
        if found is not None and found < schema.VERSION:
            raise LedgerError(
                f"it has schema version {found}, this fleetfront reads version {schema.VERSION}. "
                f"Migrate it: fleetfront ledger check --dir {path.parent}"
            )
        yield db


@contextmanager
def open_any_version(path: Path) -> Iterator[Database]:
    """As ``open_ledger``; ledgers of older versions are accepted too."""
    if not path.is_file():
        raise LedgerError(f"There is no ledger {path}. Run a campaign there, or name its --dir.")
    # Without write access to the folder SQLite cannot create the shared-memory file of WAL.
    mode = "mode=ro" if os.access(path.parent, os.W_OK) else "mode=ro&immutable=1"
    if Path(f"{path}-wal").exists():
        mode = "mode=ro"
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?{mode}", uri=True,
            timeout=BUSY_TIMEOUT_S, isolation_level=None,
        )
    except sqlite3.Error as error:
        raise LedgerError(f"The ledger {path} cannot be opened: {error}.") from error
    db = Database(connection, execute_plugins=False)
    try:
        found = stored_version(db)
        if found is None:
            raise LedgerError("the file is empty")
        refuse_newer(found)
        yield db
    except sqlite3.Error as error:
        if is_damage(error):
            raise LedgerError(
                f"The ledger {path} is damaged: {error}. To see what is lost: fleetfront ledger "
                f"check --dir {path.parent}") from error
        raise LedgerError(f"The ledger {path} cannot be read: {error}.") from error
    except LedgerError as error:
        raise LedgerError(f"{path}: {error}") from error
    finally:
        db.close()
