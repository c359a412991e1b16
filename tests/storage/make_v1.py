"""Writes ``v1.db``, the ledger of schema version 1 that must always open.

    python -m tests.storage.make_v1

It was written once, by the program of that version. Never write it again: a change of the schema
is a new version, with a migration and a stored ledger of its own.
"""

import sqlite3
import tempfile
from pathlib import Path

from searcher.ledger.tables import builds, campaigns, trials
from tests.searcher_tests.dispatch.laboratory import SPEC, FakeClock, Laboratory, recipe

STORED = Path(__file__).with_name("v1.db")


def fill(folder: Path) -> Laboratory:
    """A small campaign: a build, its measurement, a told trial and a running one."""
    lab = Laboratory.open(folder, FakeClock())
    with lab.store.atomic() as db:
        campaigns.create(db, "digits", SPEC, lab.clock())
    lab.coordinator.set_campaign_state("digits", "running")
    builder, agent = lab.builder(), lab.device()
    lab.compress(campaign="digits")
    job = lab.leased(builder)
    lab.done(builder, job)
    lab.measure(campaign="digits")
    measure = lab.leased(agent)
    lab.done(agent, measure)
    lab.compress(1, campaign="digits")
    with lab.store.atomic() as db:
        for number in range(2):
            builds.put_recipe(db, recipe(number).hash, recipe(number).as_list())
            trials.create(
                db, "digits", "local_cpu", recipe(number).hash, {}, {"x": 1}, lab.clock())
        changes = {"values": {"accuracy": 0.75}, "measurement": 1}
        trials.tell(db, 1, "complete", changes, lab.clock())
    return lab


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lab = fill(Path(folder))
        target = sqlite3.connect(STORED)
        lab.store.db.conn.backup(target)
        target.execute("PRAGMA journal_mode = DELETE").fetchall()
        target.execute("VACUUM")
        target.close()
        lab.store.close()


if __name__ == "__main__":
    main()
