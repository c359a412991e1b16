"""Counts of what happened in the ledger since this process began, kept by SQLite itself.

Temporary triggers on the writer's connection: nothing of them is in the file, a transaction that
is undone is not counted, and reading the counts scans no history.
"""

from collections.abc import Iterator

from sqlite_utils import Database

_ADD = """INSERT INTO tally VALUES ({values}, {n})
          ON CONFLICT (what, kind, state) DO UPDATE SET n = n + {n};"""


def _plus(what: str, kind: str, state: str, n: int = 1) -> str:
    return _ADD.format(values=f"'{what}', {kind}, {state}", n=n)


_STATEMENTS = (
    "PRAGMA temp_store = MEMORY",
    "DROP TABLE IF EXISTS temp.tally",
    """CREATE TEMP TABLE tally (what TEXT, kind TEXT, state TEXT, n INTEGER,
         PRIMARY KEY (what, kind, state)) WITHOUT ROWID""",
    f"""CREATE TEMP TRIGGER IF NOT EXISTS job_ended AFTER UPDATE OF finished_seq ON main.jobs
        WHEN new.finished_seq IS NOT NULL
        BEGIN {_plus('ended job', 'new.kind', 'new.state')} END""",
    f"""CREATE TEMP TRIGGER IF NOT EXISTS lease_lost AFTER UPDATE OF holder ON main.jobs
        WHEN old.state = 'leased' AND new.state = 'queued'
        BEGIN {_plus('lost lease', 'new.kind', "''")} END""",
)
_HELD = ("campaign", "trial")
"""Tables of which the tally knows how many rows are in which state."""


def _follow(what: str) -> tuple[str, ...]:
    table = f"{what}s"
    return (
        f"INSERT INTO tally SELECT '{what}', '', state, count(*) FROM main.{table} GROUP BY state",
        f"""CREATE TEMP TRIGGER IF NOT EXISTS {what}_new AFTER INSERT ON main.{table}
            BEGIN {_plus(what, "''", 'new.state')} END""",
        f"""CREATE TEMP TRIGGER IF NOT EXISTS {what}_changed AFTER UPDATE OF state ON main.{table}
            WHEN new.state <> old.state
            BEGIN {_plus(what, "''", 'old.state', -1)} {_plus(what, "''", 'new.state')} END""",
    )


def begin(db: Database) -> None:
    """Count from now on; campaigns and trials that are there already are read once."""
    for statement in (*_STATEMENTS, *(s for what in _HELD for s in _follow(what))):
        db.execute(statement)


def read(db: Database, what: str) -> Iterator[tuple[str, str, int]]:
    """Kind, state and number: ``ended job`` and ``lost lease`` are events since ``begin``,
    ``campaign`` and ``trial`` are how many rows are in which state."""
    yield from db.execute(
        "SELECT kind, state, n FROM temp.tally WHERE what = ? ORDER BY kind, state", [what]
    ).fetchall()
