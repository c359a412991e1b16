"""Counts for whoever watches: kept while things happen, so that reading them scans no history.

Campaigns and trials change rarely: temporary triggers on the writer's connection follow them.
Nothing of that is in the file, and what a transaction undoes is not counted. Jobs end by the
hundred a second: a trigger would cost each of them, so ``EndedJobs`` follows their numbers.
"""

from collections import Counter
from collections.abc import Iterator

from sqlite_utils import Database

from searcher.ledger.tables import jobs

FOLLOWED = ("campaign", "trial")


def _plus(what: str, state: str, n: int) -> str:
    return (f"INSERT INTO tally VALUES ('{what}', {state}, {n}) "
            f"ON CONFLICT (what, state) DO UPDATE SET n = n + {n};")


def _follow(what: str) -> tuple[str, ...]:
    table = f"{what}s"
    return (
        f"INSERT INTO tally SELECT '{what}', state, count(*) FROM main.{table} GROUP BY state",
        f"""CREATE TEMP TRIGGER IF NOT EXISTS {what}_new AFTER INSERT ON main.{table}
            BEGIN {_plus(what, 'new.state', 1)} END""",
        f"""CREATE TEMP TRIGGER IF NOT EXISTS {what}_changed AFTER UPDATE OF state ON main.{table}
            WHEN new.state <> old.state
            BEGIN {_plus(what, 'old.state', -1)} {_plus(what, 'new.state', 1)} END""",
    )


def begin(db: Database) -> None:
    """Read the campaigns and trials once, and follow them from now on."""
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("DROP TABLE IF EXISTS temp.tally")
    db.execute("""CREATE TEMP TABLE tally (what TEXT, state TEXT, n INTEGER,
                    PRIMARY KEY (what, state)) WITHOUT ROWID""")
    for what in FOLLOWED:
        for statement in _follow(what):
            db.execute(statement)


def read(db: Database, what: str) -> Iterator[tuple[str, int]]:
    """State and number of the rows in it; ``what`` is one of ``FOLLOWED``."""
    yield from db.execute(
        "SELECT state, n FROM temp.tally WHERE what = ? ORDER BY state", [what]).fetchall()


class EndedJobs:
    """How many jobs ended since this object was made, by kind and state.

    Call ``catch_up`` about once a second. A job that ends and is started over in between is missed.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen = jobs.last_finished(db)
        self.counts: Counter[tuple[str, str]] = Counter()

    def catch_up(self) -> None:
        last = jobs.last_finished(self._db)
        # A batch that could not be committed gives its numbers back.
        for kind, state, number in jobs.ended_after(self._db, min(self._seen, last)):
            self.counts[kind, state] += number
        self._seen = last
