"""Rules of the audit: every acknowledged write is in the ledger, exactly once and under its fence.

Pure functions of the journal's exchanges and an open ledger. Each violation is one line of text.
"""

import hashlib
import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from benchmarks.chaos.journal import Exchange
from searcher.jobs import fields

Body = Callable[[str], bytes | None]
"""sha256 -> JSON of that result, None if the wire never carried it."""
ENDED = ("done", "failed", "cancelled")
TABLE_OF = {"compress": "builds", "train": "builds", "evaluate": "evaluations"}


@dataclass(frozen=True)
class Finding:
    """Outcome of one rule: the number of checks and the violations."""

    rule: str
    checked: int
    violations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lease:
    """A lease that the coordinator granted."""

    job: int
    attempt: int
    fence: int
    exchange: Exchange


@dataclass
class _Rule:
    name: str
    checked: int = 0
    violations: list[str] = field(default_factory=list)

    def check(self, holds: bool, violation: str) -> None:
        self.checked += 1
        if not holds:
            self.violations.append(violation)

    def finding(self) -> Finding:
        return Finding(self.name, self.checked, tuple(self.violations))


def audit(exchanges: Sequence[Exchange], db: Database, body: Body,
          artifacts: Path) -> list[Finding]:
    """Checks all rules except the comparison of fronts, which ``replay`` does."""
    leases = leases_of(exchanges)
    accepted = [e for e in exchanges if e.acknowledged
                and e.is_about("PUT", "v1", "results", "*", "*")]
    return [
        results_kept(accepted, db, body), stored_once(accepted, db, body),
        jobs_ended(exchanges, db), fences_increase(leases), no_stale_fence(exchanges, leases),
        leases_ended(leases, db), trials_kept(exchanges, db), campaigns_kept(exchanges, db),
        files_whole(db, artifacts), ledger_sound(db),
    ]


def leases_of(exchanges: Iterable[Exchange]) -> list[Lease]:
    return [Lease(e.answer["job"], e.answer["attempt"], e.answer["fence"], e) for e in exchanges
            if e.status == 200 and e.is_about("POST", "v1", "lease")]


def results_kept(accepted: Sequence[Exchange], db: Database, body: Body) -> Finding:
    """The ledger holds the last acknowledged result of each job. Earlier results of the same job
    must be failures: a failed job that is submitted again gets a new result."""
    rule = _Rule("every acknowledged result is in the ledger")
    rows = {row[0]: row[1:] for row in db.execute(
        "SELECT id, state, result_sha256, fence, attempt FROM jobs")}
    of_job: dict[int, dict[int, Exchange]] = defaultdict(dict)
    for one in accepted:
        of_job[int(one.part(2))][int(one.query["fence"])] = one
    for job, by_fence in sorted(of_job.items()):
        last = max(by_fence)
        state, sha256, fence, attempt = rows.get(job, ("absent", None, None, None))
        for number, one in by_fence.items():
            label = f"job {job}, attempt {one.part(3)}, fence {number}, {(one.sha256 or '')[:12]}"
            kept = (state in ENDED and (sha256, fence, attempt)
                    == (one.sha256, number, int(one.part(3))))
            replaced = (fence or 0) > number if number != last else sha256 is None
            rule.check(kept or (replaced and state in ENDED and _failed(body, one)),
                       f"{label}: the ledger has {state}, fence {fence}, "
                       f"{(sha256 or 'no result')[:12]}")
    return rule.finding()


def _failed(body: Body, one: Exchange) -> bool:
    return bool(json.loads(body(one.sha256 or "") or b"{}").get("state") == "failed")


def stored_once(accepted: Sequence[Exchange], db: Database, body: Body) -> Finding:
    """The table of the job's kind holds one row per file of the result; no job has two results."""
    rule = _Rule("its measurements, build or evaluation are stored exactly once")
    measured = Counter((row[0], row[1]) for row in db.execute(
        "SELECT job, sha256 FROM measurements"))
    built = {(table, row[0]): row[1] for table in set(TABLE_OF.values()) for row in db.execute(
        f"SELECT job, count(*) FROM {table} GROUP BY job")}
    rows = {row[0]: row[1:] for row in db.execute(
        "SELECT id, kind, state, result_sha256, result FROM jobs")}
    for job, sha256 in sorted({(int(e.part(2)), e.sha256) for e in accepted}):
        kind, state, kept, result = rows.get(job, ("absent", "absent", None, None))
        if state != "done" or kept != sha256:
            continue  # malformed or failed: stores nothing; ``results_kept`` finds lost results
        if kind == "measure":
            content = json.loads(body(sha256 or "") or b"{}")
            for entry in content["result"]["measurements"]:
                count = measured[job, entry["sha256"]]
                rule.check(count == 1, f"job {job}: {count} measurements of "
                                       f"{entry['sha256'][:12]}")
        elif kind == "evaluate":
            rule.check(_evaluated(db, result), f"job {job}: its evaluation is missing")
        elif kind in TABLE_OF:  # the others store nothing beside the job
            count = built.get((TABLE_OF[kind], job), 0)
            rule.check(count == 1, f"job {job} ({kind}): {count} rows")
    for (job, sha256), count in measured.items():
        rule.check(count == 1, f"job {job}: {count} measurements of {sha256[:12]}")
    return rule.finding()


def _evaluated(db: Database, result: str | None) -> bool:
    """The ledger keeps the first evaluation of a file, from any job."""
    reported = json.loads(result or "{}").get("evaluation", {})
    found = db.execute("SELECT value, n FROM evaluations WHERE sha256 = ? AND split = ?",
                       [reported.get("sha256"), reported.get("split")]).fetchall()
    return [tuple(row) for row in found] == [(reported.get("value"), reported.get("n"))]


def jobs_ended(exchanges: Sequence[Exchange], db: Database) -> Finding:
    """Each submitted job has its number in the ledger and has ended."""
    rule = _Rule("every acknowledged job is in the ledger and has ended")
    rows = {row[0]: row[1:] for row in db.execute("SELECT id, key, state FROM jobs")}
    for job, key in sorted({(e.answer["job"], e.answer["key"]) for e in exchanges
                            if e.acknowledged and e.is_about("POST", "v1", "jobs")}):
        found, state = rows.get(job, ("absent", "absent"))
        rule.check(found == key and state in ENDED, f"job {job}: {state}, key {found[:12]}, "
                                                    f"acknowledged as {key[:12]}")
    return rule.finding()


def fences_increase(leases: Sequence[Lease]) -> Finding:
    """No two leases share a fence. A lease requested after another was granted has a higher fence.
    """
    rule = _Rule("fences increase, per job and overall")
    holders: dict[int, tuple[int, int]] = {}
    for lease in leases:
        known = holders.setdefault(lease.fence, (lease.job, lease.attempt))
        rule.check(known == (lease.job, lease.attempt), f"fence {lease.fence}: job {known[0]} "
                   f"attempt {known[1]}, and job {lease.job} attempt {lease.attempt}")
    highest = RunningMaximum((lease.exchange.received_s or 0.0, lease.fence) for lease in leases)
    for lease in leases:
        before = highest.until(lease.exchange.sent_s)
        rule.check(lease.fence > before, f"job {lease.job}: fence {lease.fence} was granted after "
                                         f"{before}")
    by_job: dict[int, list[Lease]] = defaultdict(list)
    for lease in leases:
        by_job[lease.job].append(lease)
    for job, ones in by_job.items():
        ordered = sorted(ones, key=lambda lease: lease.fence)
        attempts = [lease.attempt for lease in ordered]
        rule.check(attempts == sorted(set(attempts)), f"job {job}: attempts {attempts} in the "
                                                      "order of their fences")
    return rule.finding()


class RunningMaximum:
    """Maximum of the numbers known before a given time."""

    def __init__(self, known: Iterable[tuple[float, int]]) -> None:
        self._times: list[float] = []
        self._numbers: list[int] = []
        highest = 0
        for at_s, number in sorted(known):
            highest = max(highest, number)
            self._times.append(at_s)
            self._numbers.append(highest)

    def until(self, moment_s: float) -> int:
        """The maximum at ``moment_s``; 0 when no number was known before it."""
        index = bisect_left(self._times, moment_s)
        return self._numbers[index - 1] if index else 0


def no_stale_fence(exchanges: Sequence[Exchange], leases: Sequence[Lease]) -> Finding:
    """After a later lease of the job was granted, no new result and no heartbeat is accepted."""
    rule = _Rule("no stale fence is accepted")
    superseded = {
        job: RunningMaximum((o.exchange.received_s or 0.0, o.fence) for o in ones)
        for job, ones in _by_job(leases).items()}
    known: set[tuple[int, int, str | None]] = set()
    for one in sorted((e for e in exchanges if e.acknowledged), key=lambda e: e.received_s or 0.0):
        if one.is_about("PUT", "v1", "results", "*", "*"):
            job, fence = int(one.part(2)), int(one.query["fence"])
            if (job, fence, one.sha256) in known:
                continue  # a repeated identical result is acknowledged again
            known.add((job, fence, one.sha256))
        elif one.is_about("POST", "v1", "heartbeat"):
            job, fence = one.request["job"], one.request["fence"]
        else:
            continue
        later = superseded[job].until(one.sent_s) if job in superseded else 0
        rule.check(later <= fence, f"job {job}: {one.method} under fence {fence} was accepted "
                                   f"after fence {later} was granted")
    results = Counter((job, fence) for job, fence, _ in known)
    for (job, fence), count in results.items():
        rule.check(count == 1, f"job {job}: {count} different results under fence {fence}")
    return rule.finding()


def _by_job(leases: Iterable[Lease]) -> dict[int, list[Lease]]:
    found: dict[int, list[Lease]] = defaultdict(list)
    for lease in leases:
        found[lease.job].append(lease)
    return found


def leases_ended(leases: Sequence[Lease], db: Database) -> Finding:
    """The ledger records each granted lease: its job has this attempt and fence or later ones, all
    its spans are closed, and it ended with a result, a later lease or a final failure."""
    rule = _Rule("no lease is lost")
    rows = {row[0]: row[1:] for row in db.execute(
        "SELECT id, attempt, fence, state FROM jobs")}
    spans = {row[0]: row[1:] for row in db.execute(
        "SELECT job, count(*), sum(end_s IS NULL) FROM spans GROUP BY job")}
    for lease in leases:
        attempt, fence, state = rows.get(lease.job, (0, 0, "absent"))
        count, still_open = spans.get(lease.job, (0, 0))
        known = (attempt, fence) >= (lease.attempt, lease.fence) and count >= lease.attempt
        rule.check(
            known and state in ENDED and not still_open, f"job {lease.job}, attempt "
            f"{lease.attempt}, fence {lease.fence}: the ledger has {state}, attempt {attempt}, "
            f"fence {fence}, {count} spans, {still_open} of them open")
    return rule.finding()


def trials_kept(exchanges: Sequence[Exchange], db: Database) -> Finding:
    """Each acknowledged trial has its recipe, and its last acknowledged state and values."""
    rule = _Rule("every acknowledged trial is in the ledger with its last update")
    rows = {row[0]: row[1:] for row in db.execute(
        'SELECT id, recipe, state, "values" FROM trials')}
    updates: dict[int, Any] = {}
    for one in sorted((e for e in exchanges if e.acknowledged), key=lambda e: e.received_s or 0.0):
        if one.is_about("POST", "v1", "campaigns", "*", "trials"):
            found = rows.get(one.answer["id"], (None, None, None))
            rule.check(found[0] == one.request["recipe"], f"trial {one.answer['id']}: recipe "
                       f"{found[0]}, acknowledged as {one.request['recipe']}")
        elif one.is_about("PUT", "v1", "trials", "*"):
            updates[int(one.part(2))] = one.request
    for trial, request in sorted(updates.items()):
        found = rows.get(trial, (None, "absent", None))
        values = json.loads(found[2]) if found[2] else None
        rule.check(found[1] == request["state"] and values == request.get("values"),
                   f"trial {trial}: {found[1]}, acknowledged as {request['state']}")
    return rule.finding()


def campaigns_kept(exchanges: Sequence[Exchange], db: Database) -> Finding:
    """Each acknowledged campaign is in the ledger, and stays done once that was acknowledged."""
    rule = _Rule("every acknowledged campaign is in the ledger; done stays done")
    states = {row[0]: row[1] for row in db.execute("SELECT name, state FROM campaigns")}
    for one in exchanges:
        if not one.acknowledged:
            continue
        if one.is_about("POST", "v1", "campaigns"):
            rule.check(one.request["name"] in states, f"{one.request['name']} is missing")
        elif one.is_about("PUT", "v1", "campaigns", "*", "state") and \
                one.request["state"] == "done":
            found = states.get(one.part(2))
            rule.check(found == "done", f"{one.part(2)} is {found}")
    return rule.finding()


def files_whole(db: Database, artifacts: Path) -> Finding:
    """Each artifact of the ledger exists and has its digest."""
    rule = _Rule("every file has its digest")
    for row in db.execute("SELECT sha256 FROM artifacts WHERE dropped_s IS NULL"):
        path = artifacts / fields.sha256_of(row[0], "sha256")
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
        rule.check(found == row[0], f"{row[0][:12]}: {found[:12]}")
    return rule.finding()


def ledger_sound(db: Database) -> Finding:
    """SQLite's integrity and foreign key checks."""
    rule = _Rule("the ledger passes SQLite's integrity and foreign key checks")
    found = [row[0] for row in db.execute("PRAGMA integrity_check")]
    rule.check(found == ["ok"], "; ".join(map(str, found[:3])))
    dangling = db.execute("PRAGMA foreign_key_check").fetchall()
    rule.check(not dangling, f"{len(dangling)} rows with a dangling foreign key")
    return rule.finding()
