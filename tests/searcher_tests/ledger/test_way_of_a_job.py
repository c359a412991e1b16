"""The requests of a job do not read the history: job 1,000 costs as much as job 10."""

from collections.abc import Callable
from pathlib import Path

import pytest

from searcher.artifacts.live_set import live_files
from searcher.ledger.tables import artifacts, builds, campaigns, jobs, trials
from tests.searcher_tests.dispatch.laboratory import SPEC, Laboratory, measure_payload, recipe

GROWING = {"jobs", "trials", "measurements", "samples", "spans", "builds", "artifacts",
           "evaluations", "recipes", "job_requests", "agents", "enrolments",
           *"trbamj"}
"""Tables, and the names that queries give them."""


def opened(folder: Path) -> Laboratory:
    lab = Laboratory.open(folder)
    with lab.store.atomic() as db:
        campaigns.create(db, "digits", SPEC, lab.clock())
    lab.coordinator.set_campaign_state("digits", "running")
    return lab


def one_trial(lab: Laboratory, number: int) -> None:
    """Submit, lease, heartbeat, result and tick, for a builder and for a device, and the trial."""
    coordinator, builder, agent = lab.coordinator, lab.builder(), lab.device(hostname="elsewhere")
    with lab.store.atomic() as db:
        builds.put_recipe(db, recipe(number).hash, recipe(number).as_list())
        trial = trials.create(db, "digits", "local_cpu", recipe(number).hash, {}, {}, lab.clock())
    lab.compress(number, campaign="digits")
    job = lab.leased(builder)
    coordinator.heartbeat(builder, job.id, job.fence or 0, 0.5)
    coordinator.tick()
    lab.done(builder, job)
    build = jobs.get(lab.store.db, job.id)
    assert build is not None and build.result is not None
    file = {"sha256": build.result["sha256"], "size_bytes": build.result["file_bytes"]}
    coordinator.submit("measure", "device:local_cpu",
                       measure_payload(lab.artifact(b"reference"), file), campaign="digits")
    job = lab.leased(agent)
    coordinator.heartbeat(agent, job.id, job.fence or 0, 0.5)
    coordinator.tick()
    lab.done(agent, job)
    jobs.finished(lab.store.db, "digits", (job.fence or 0) - 1)
    with lab.store.atomic() as db:
        trials.tell(db, trial, "complete", {"values": {"accuracy": 0.5}}, lab.clock())
    coordinator.tick()


def test_no_statement_scans_what_grows(tmp_path: Path) -> None:
    lab = opened(tmp_path)
    one_trial(lab, 0)
    seen: list[tuple[str, object]] = []
    with lab.store.db.tracer(lambda sql, parameters: seen.append((sql, parameters))):
        one_trial(lab, 1)
        for _ in live_files(lab.store.db):
            pass
        artifacts.page(lab.store.db, 0, 5)
        artifacts.of_work(lab.store.db, ["a" * 64], "r", 1.0)
        artifacts.builds_in_use(lab.store.db, ["b"], "r")
    explained = 0
    for sql, parameters in seen:
        if sql.split()[0] not in ("SELECT", "UPDATE", "INSERT", "DELETE", "WITH"):
            continue
        explained += 1
        for row in lab.store.db.conn.execute(f"EXPLAIN QUERY PLAN {sql}", parameters or ()):
            words = row[3].split()
            full = words[0] == "SCAN" and "INDEX" not in words
            assert not (full and words[1] in GROWING), (sql, row[3])
    assert explained > 50
    lab.store.close()


def steps(lab: Laboratory, work: Callable[[], None]) -> int:
    """Number of instructions that SQLite executes."""
    count = 0

    def one() -> int:
        nonlocal count
        count += 1
        return 0

    lab.store.db.conn.set_progress_handler(one, 1)
    work()
    lab.store.db.conn.set_progress_handler(None, 0)
    return count


@pytest.mark.parametrize("history", [200])
def test_a_job_costs_the_same_after_a_long_history(tmp_path: Path, history: int) -> None:
    lab = opened(tmp_path)
    for number in range(10):
        one_trial(lab, number)
    early = steps(lab, lambda: one_trial(lab, 10))
    for number in range(11, history):
        one_trial(lab, number)
    late = steps(lab, lambda: one_trial(lab, history))
    # A scan of any of the tables would add thousands.
    assert abs(late - early) < 200, (early, late)
    lab.store.close()
