"""Migration of a ledger to the current schema version, one version at a time."""

import json
from collections.abc import Callable, Mapping, Sequence

from sqlite_utils import Database

from searcher.errors import LedgerError
from searcher.ledger import schema
from searcher.ledger.rows import text
from searcher.ledger.tables import measurements

Step = Callable[[Database], None]


def _to_2(db: Database) -> None:
    """For the daemon: priorities and shares of campaigns, tokens, quarantine of devices, deadlines
    in the queue, uploaded and dropped artifacts."""
    for statement in (
        "ALTER TABLE campaigns ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
        """CREATE INDEX campaigns_live ON campaigns (priority DESC, created_s)
           WHERE state IN ('queued', 'running')""",
        "ALTER TABLE devices ADD COLUMN strikes INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE devices ADD COLUMN reason TEXT",
        "ALTER TABLE jobs ADD COLUMN queue_until_s REAL",
        "ALTER TABLE artifacts ADD COLUMN origin TEXT NOT NULL DEFAULT 'build'",
        "ALTER TABLE artifacts ADD COLUMN inspection TEXT",
        "ALTER TABLE artifacts ADD COLUMN dropped_s REAL",
        """CREATE TABLE tokens (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,
            secret_hash TEXT NOT NULL UNIQUE, created_s REAL NOT NULL, expires_s REAL,
            revoked_s REAL) STRICT""",
        """CREATE TABLE shares (
            campaign TEXT NOT NULL REFERENCES campaigns(name), pool TEXT NOT NULL,
            used_s REAL NOT NULL, PRIMARY KEY (campaign, pool)) STRICT, WITHOUT ROWID""",
        """CREATE INDEX jobs_to_expire ON jobs (queue_until_s)
           WHERE state = 'queued' AND queue_until_s IS NOT NULL""",
    ):
        db.execute(statement)


def _to_3(db: Database) -> None:
    """A table for raw meter readings; version 2 stores them in ``measurements.conditions``."""
    db.execute("""CREATE TABLE rails (
        measurement INTEGER PRIMARY KEY REFERENCES measurements(id), traces BLOB NOT NULL)
       STRICT""")
    found = db.execute("""SELECT id FROM measurements
                          WHERE json_type(conditions, '$.energy.rails') IS NOT NULL""").fetchall()
    for (measurement_id,) in found:
        (document,) = db.execute(
            "SELECT conditions FROM measurements WHERE id = ?", [measurement_id]).fetchone()
        conditions = json.loads(document)
        traces = conditions["energy"].pop("rails")
        if traces:
            measurements.put_rails(db, measurement_id, measurements.compressed_rails(traces))
        db.execute("UPDATE measurements SET conditions = ? WHERE id = ?",
                   [text(conditions), measurement_id])


def _to_4(db: Database) -> None:
    """A table for search states; version 3 stores them in ``campaigns.baseline``."""
    db.execute("""CREATE TABLE search_state (
        campaign TEXT NOT NULL REFERENCES campaigns(name), device TEXT NOT NULL,
        state TEXT NOT NULL, updated_s REAL NOT NULL,
        PRIMARY KEY (campaign, device)) STRICT, WITHOUT ROWID""")
    found = db.execute("""SELECT name, spec, baseline, coalesce(ended_s, started_s, created_s)
                          FROM campaigns WHERE baseline IS NOT NULL""").fetchall()
    for name, spec, baseline, when_s in found:
        known = json.loads(baseline)
        if "values" not in known:
            continue  # nothing is measured yet: the search starts with the baseline
        (device, *_) = json.loads(spec).get("devices", [{"profile": "local_cpu"}])
        reference = ("sha256", "file_bytes", "quiet_level_s", "measurement", "values",
                     "intervals", "on_device")
        state = {"baseline": {key: known[key] for key in reference if key in known},
                 **{key: known[key] for key in ("baseline_s", "searched_s", "notes", "extended",
                                                "trained") if key in known},
                 "joint": known.get("together") or {}}
        db.execute("INSERT INTO search_state VALUES (?, ?, ?, ?)",
                   [name, device.get("name") or device["profile"], text(state), when_s])
    db.execute("ALTER TABLE campaigns DROP COLUMN baseline")


_RENAMED = {"accuracy_drop": "quality_drop", "accuracy_test_drop": "quality_test_drop",
            "accuracy_on_device": "quality_on_device"}


def _to_5(db: Database) -> None:
    """Evaluations of any metric: scores of any type instead of one bit per sample, and the task.
    Figures ``accuracy_drop`` are ``quality_drop``.

    The documents are rewritten, not translated when they are read: queries give the JSON of
    thousands of trials to searches without decoding it.
    """
    for statement in (
        """CREATE TABLE evaluations_5 (
            id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL REFERENCES artifacts(sha256),
            task TEXT NOT NULL, split TEXT NOT NULL, place TEXT NOT NULL, metric TEXT NOT NULL,
            value REAL NOT NULL, n INTEGER NOT NULL, low REAL, high REAL, scores BLOB,
            encoding TEXT, job INTEGER REFERENCES jobs(id), created_s REAL NOT NULL,
            UNIQUE (sha256, task, split, place, metric)) STRICT""",
        """INSERT INTO evaluations_5 (id, sha256, task, split, place, metric, value, n, scores,
             encoding, job, created_s)
           SELECT e.id, e.sha256, coalesce(json_extract(j.payload, '$.task'), ''), e.split,
             e.place, e.metric, e.value, e.n, e.correct, 'bits', e.job, e.created_s
           FROM evaluations e LEFT JOIN jobs j ON j.id = e.job""",
        "DROP TABLE evaluations",
        "ALTER TABLE evaluations_5 RENAME TO evaluations",
        """CREATE TABLE labels (
            hash TEXT PRIMARY KEY, kind TEXT NOT NULL, names TEXT NOT NULL, n INTEGER NOT NULL,
            codes BLOB NOT NULL, encoding TEXT NOT NULL) STRICT""",
        """CREATE TABLE evaluation_labels (
            evaluation INTEGER NOT NULL REFERENCES evaluations(id),
            labels TEXT NOT NULL REFERENCES labels(hash),
            PRIMARY KEY (evaluation, labels)) STRICT, WITHOUT ROWID""",
    ):
        db.execute(statement)
    _rename_keys(db, "trials", ("values", "intervals", "constraints"))
    _rename_keys(db, "search_state", ("state",))


def _rename_keys(db: Database, table: str, columns: Sequence[str]) -> None:
    """Rename the keys in ``_RENAMED`` in columns of JSON. A quote within a JSON text is escaped, so
    that ``"name":`` can only be a key."""
    for column in columns:
        changed = f'"{column}"'
        for old, new in _RENAMED.items():
            changed = f"""replace({changed}, '"{old}":', '"{new}":')"""
        db.execute(f"""UPDATE {table} SET "{column}" = {changed}
                       WHERE "{column}" LIKE '%"accuracy%'""")


STEPS: Mapping[int, Step] = {1: _to_2, 2: _to_3, 3: _to_4, 4: _to_5}
"""The step from version n to n + 1, by n. Each runs in one transaction."""


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
        "The file is a database, but not a ledger: it has the tables "
        f"{', '.join(sorted(tables)[:5])} and no schema version. Choose another --dir."
    )


def refuse_newer(found: int, known: int = schema.VERSION) -> None:
    """Raises LedgerError when a newer program wrote the ledger."""
    if found > known:
        raise LedgerError(
            f"The ledger has schema version {found}, this fleetfront knows up to {known}. "
            "Upgrade fleetfront, or use the --dir of the older ledger."
        )


def _refuse_damaged(db: Database) -> None:
    """Raises LedgerError for a damaged file: a migration could destroy what is still readable."""
    said = [str(row[0]) for row in db.execute("PRAGMA quick_check(3)")]
    if said != ["ok"]:
        raise LedgerError(
            f"The ledger is damaged ({'; '.join(said)}) and was not migrated. Put a backup in its "
            "place; fleetfront ledger check shows details."
        )


def bring_up_to_date(
    db: Database, steps: Mapping[int, Step] = STEPS, known: int = schema.VERSION
) -> None:
    """Create the tables in an empty file, or migrate from the stored version to ``known``.

    Raises LedgerError for a newer version, a missing step, or a damaged file of an older version;
    the file is then unchanged.
    """
    found = stored_version(db)
    if found is None:
        with db.atomic():
            for statement in schema.STATEMENTS:
                db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(schema.VERSION)])
        return
    refuse_newer(found, known)
    if found < known:
        _refuse_damaged(db)
    for version in range(found, known):
        if version not in steps:
            raise LedgerError(f"No migration leads from ledger version {version} to {known}.")
        with db.atomic():
            steps[version](db)
            db.execute(
                "UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(version + 1)]
            )
