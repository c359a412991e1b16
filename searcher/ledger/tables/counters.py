"""Running counts for the metrics, so that reading them scans no history.

Campaigns and trials change rarely: temporary triggers on the writer's connection count them. The
triggers are not stored in the file, and changes that are rolled back are not counted. Hundreds of
jobs end per second and a trigger would slow each of them; ``EndedJobs`` reads their sequence
numbers instead.
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
    """Count all campaigns and trials once, and keep the counts current from then on."""
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("DROP TABLE IF EXISTS temp.tally")
    db.execute("""CREATE TEMP TABLE tally (what TEXT, state TEXT, n INTEGER,
                    PRIMARY KEY (what, state)) WITHOUT ROWID""")
    for what in FOLLOWED:
        for statement in _follow(what):
            db.execute(statement)


def read(db: Database, what: str) -> Iterator[tuple[str, int]]:
    """Each state and its number of rows; ``what`` is one of ``FOLLOWED``."""
    yield from db.execute(
        "SELECT state, n FROM temp.tally WHERE what = ? ORDER BY state", [what]).fetchall()


class EndedJobs:
    """Number of jobs that ended since this object was created, by kind and state.

    Call ``catch_up`` about once a second. It misses a job that ends and is restarted in between.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen = jobs.last_finished(db)
        self.counts: Counter[tuple[str, str]] = Counter()

    def catch_up(self) -> None:
        last = jobs.last_finished(self._db)
        # A batch that was rolled back returns its numbers.
        for kind, state, number in jobs.ended_after(self._db, min(self._seen, last)):
            self.counts[kind, state] += number
        self._seen = last
