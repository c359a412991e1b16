"""Bringing a ledger to this program's schema version, one step at a time."""

from collections.abc import Callable, Mapping

from sqlite_utils import Database

from searcher.errors import LedgerError
from searcher.ledger import schema

Step = Callable[[Database], None]

STEPS: Mapping[int, Step] = {}
"""From version n to n + 1; each runs in one transaction. Version 1 is the first."""


def stored_version(db: Database) -> int | None:
    """The schema version of ``db``; None for an empty file. Raises LedgerError for other files."""
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if "meta" in tables:
        row = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        if row is not None and str(row[0]).isdigit():
            return int(row[0])
    raise LedgerError(
        f"The file is a database, but no ledger: it holds {', '.join(sorted(tables)[:5])} and no "
        "schema version. Choose another --dir."
    )


def refuse_newer(found: int, known: int = schema.VERSION) -> None:
    """Raises LedgerError when a newer program wrote the ledger."""
    if found > known:
        raise LedgerError(
            f"The ledger has schema version {found}, this fleetfront knows up to {known}. "
            "Upgrade fleetfront, or use the --dir of the older ledger."
        )


def bring_up_to_date(
    db: Database, steps: Mapping[int, Step] = STEPS, known: int = schema.VERSION
) -> None:
    """Create the tables in an empty file, or migrate from the stored version to ``known``.

    Raises LedgerError for a newer version or a missing step; the file is then unchanged.
    """
    found = stored_version(db)
    if found is None:
        with db.atomic():
            for statement in schema.STATEMENTS:
                db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(schema.VERSION)])
        return
    refuse_newer(found, known)
    for version in range(found, known):
        if version not in steps:
            raise LedgerError(f"No migration leads from ledger version {version} to {known}.")
        with db.atomic():
            steps[version](db)
            db.execute(
                "UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(version + 1)]
            )
