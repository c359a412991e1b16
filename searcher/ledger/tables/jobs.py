"""Jobs: rows and transitions between states. The rules are in ``searcher/dispatch``."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from searcher.ledger.rows import JobRow, first, select, text
from searcher.ledger.store import next_number
from searcher.ledger.tables import fair_share

ENDED = ("done", "failed", "cancelled")
MOST_FINISHED_BYTES = 32 * 2**20
"""Results with the scores of many samples have megabytes."""
_WANTED = """(t.unowned OR EXISTS (
    SELECT 1 FROM job_requests r JOIN campaigns c ON c.name = r.campaign
    WHERE r.job = t.id AND c.state IN ('queued', 'running')))"""
_NOT_ENDED = """(t.unowned OR EXISTS (
    SELECT 1 FROM job_requests r JOIN campaigns c ON c.name = r.campaign
    WHERE r.job = t.id AND c.state NOT IN ('done', 'failed', 'cancelled')))"""

_ENDS = "min(coalesce(lease_expires_s, 0), coalesce(deadline_at_s, 0))"


def get(db: Database, job_id: int) -> JobRow | None:
    return first(db, JobRow, "jobs", "WHERE id = ?", [job_id])


def by_key(db: Database, key: str) -> JobRow | None:
    return first(db, JobRow, "jobs", "WHERE key = ?", [key])


def done(db: Database, kind: str, ids: Collection[int]) -> dict[int, JobRow]:
    """The jobs of ``kind`` among ``ids`` that are done, by id."""
    # As JSON, because a client may have named numbers that SQLite cannot hold.
    rows = select(db, JobRow, "jobs", "WHERE t.kind = ? AND t.state = 'done' "
                  "AND t.id IN (SELECT value FROM json_each(?))", [kind, text(list(ids))])
    return {row.id: row for row in rows}


def create(
    db: Database, key: str, kind: str, pool: str, campaign: str | None, payload: dict[str, Any],
    priority: int, now_s: float,
) -> int:
    cursor = db.execute(
        """INSERT INTO jobs (key, kind, pool, campaign, payload, priority, state, unowned,
             cancel_requested, attempt, strikes, created_s)
           VALUES (?, ?, ?, ?, ?, ?, 'queued', 0, 0, 0, 0, ?)""",
        [key, kind, pool, campaign, text(payload), priority, now_s],
    )
    return int(cursor.lastrowid or 0)


def want(db: Database, job_id: int, campaign: str | None, priority: int) -> None:
    """Record that ``campaign`` waits for the job; None means a command line."""
    if campaign is None:
        db.execute("UPDATE jobs SET unowned = 1 WHERE id = ?", [job_id])
    else:
        db.execute("INSERT OR IGNORE INTO job_requests VALUES (?, ?)", [campaign, job_id])
    db.execute(
        "UPDATE jobs SET priority = max(priority, ?), cancel_requested = 0 WHERE id = ?",
        [priority, job_id],
    )


def may_wait(db: Database, job_id: int, until_s: float | None, just_queued: bool) -> None:
    """Let a queued job wait for a lease until ``until_s`` (None: without limit). For a job that was
    queued before, the later of both times counts."""
    db.execute(
        """UPDATE jobs SET queue_until_s = CASE WHEN ?1 THEN ?2
             ELSE max(queue_until_s, ?2) END WHERE id = ?3 AND state = 'queued'""",
        [just_queued, until_s, job_id],
    )


def waited_too_long(db: Database, now_s: float, limit: int = 1000) -> list[JobRow]:
    """Queued jobs whose time limit for a lease has passed."""
    return select(
        db, JobRow, "jobs",
        "WHERE t.state = 'queued' AND t.queue_until_s <= ? ORDER BY t.queue_until_s LIMIT ?",
        [now_s, limit],
    )


def start_over(db: Database, job_id: int, done_too: bool = False) -> None:
    """Queue a failed or cancelled job again, with no strikes. With ``done_too`` also a job that is
    done; its result is deleted."""
    db.execute(
        """UPDATE jobs SET state = 'queued', strikes = 0, cancel_requested = 0, reason = NULL,
             message = NULL, result = NULL, result_sha256 = NULL, finished_s = NULL,
             finished_seq = NULL
           WHERE id = ? AND (state IN ('failed', 'cancelled') OR ? AND state = 'done')""",
        [job_id, int(done_too)],
    )


def next_queued(db: Database, pool: str) -> JobRow | None:
    """The job to lease next.

    Campaigns take turns (``fair_share.in_turn``). Jobs of a command line come before campaigns of
    priority 0. Within one campaign, jobs are ordered by priority, then age.
    """
    campaigns = fair_share.in_turn(db, pool)
    if len(campaigns) < 2:
        return first(
            db, JobRow, "jobs",
            f"WHERE t.pool = ? AND t.state = 'queued' AND {_WANTED} "
            "ORDER BY t.priority DESC, t.id", [pool],
        )
    urgent = [name for name, priority in campaigns if priority > 0]
    for campaign in (*urgent, None, *(name for name, _ in campaigns[len(urgent):])):
        found = _next_of(db, pool, campaign)
        if found is not None:
            return found
    return None


def _next_of(db: Database, pool: str, campaign: str | None) -> JobRow | None:
    if campaign is None:
        wanted, parameters = "t.unowned", [pool]
    else:
        wanted = "EXISTS (SELECT 1 FROM job_requests r WHERE r.campaign = ? AND r.job = t.id)"
        parameters = [pool, campaign]
    return first(
        db, JobRow, "jobs",
        f"WHERE t.pool = ? AND t.state = 'queued' AND {wanted} ORDER BY t.priority DESC, t.id",
        parameters,
    )


def queued(db: Database, pool: str, limit: int = 100) -> list[JobRow]:
    """Jobs of a pool that can be leased, by priority, then age."""
    return select(
        db, JobRow, "jobs",
        f"WHERE t.pool = ? AND t.state = 'queued' AND {_WANTED} "
        "ORDER BY t.priority DESC, t.id LIMIT ?",
        [pool, limit],
    )


def list_waiting(db: Database, pool: str, limit: int = 100_000) -> list[JobRow]:
    """All queued jobs of a pool, including those of paused campaigns."""
    return select(
        db, JobRow, "jobs", "WHERE t.pool = ? AND t.state = 'queued' ORDER BY t.id LIMIT ?",
        [pool, limit],
    )


def leased(db: Database, pool: str | None = None, limit: int = 10_000) -> list[JobRow]:
    if pool is None:
        return select(db, JobRow, "jobs", "WHERE state = 'leased' ORDER BY pool LIMIT ?", [limit])
    return select(
        db, JobRow, "jobs", "WHERE state = 'leased' AND pool = ? ORDER BY id LIMIT ?",
        [pool, limit],
    )


def leased_on_this_host(db: Database) -> list[JobRow]:
    """Leased jobs of the devices that share the coordinator's cores."""
    return select(db, JobRow, "jobs",
                  """WHERE state = 'leased' AND pool IN (
                       SELECT 'device:' || name FROM devices
                       WHERE shares_host AND state <> 'removed') ORDER BY pool, id""")


def queued_on_this_host(db: Database) -> set[str]:
    """Pools of the active devices that share the coordinator's cores and have a job to lease."""
    return {f"device:{row[0]}" for row in db.execute(
        f"""SELECT d.name FROM devices d WHERE d.shares_host AND d.state = 'active' AND EXISTS (
              SELECT 1 FROM jobs t
              WHERE t.pool = 'device:' || d.name AND t.state = 'queued' AND {_WANTED})""")}


def lease_over(
    db: Database, now_s: float, without_pool: str | None = None, limit: int = 1000
) -> list[JobRow]:
    """Leased jobs past their lease or deadline, except those of ``without_pool``."""
    return select(
        db, JobRow, "jobs",
        f"WHERE state = 'leased' AND {_ENDS} <= ? AND pool IS NOT ? ORDER BY {_ENDS} LIMIT ?",
        [now_s, without_pool, limit])


def next_end_s(db: Database) -> float | None:
    """The earliest end of a lease or deadline; None without leases."""
    row = db.execute(f"SELECT min({_ENDS}) FROM jobs WHERE state = 'leased'").fetchone()
    return None if row[0] is None else float(row[0])


def held_by(db: Database, pool: str, holder: str) -> list[JobRow]:
    return select(
        db, JobRow, "jobs", "WHERE state = 'leased' AND pool = ? AND holder = ?", [pool, holder]
    )


def grant(
    db: Database, job_id: int, holder: str, expires_s: float, deadline_at_s: float, now_s: float
) -> None:
    """Lease a queued job under the next fence of the ledger."""
    db.execute(
        """UPDATE jobs SET state = 'leased', attempt = attempt + 1, fence = ?, holder = ?,
             leased_s = ?, heartbeat_s = ?, lease_expires_s = ?, deadline_at_s = ?,
             progress = NULL, started_s = coalesce(started_s, ?)
           WHERE id = ? AND state = 'queued'""",
        [next_number(db, "fence"), holder, now_s, now_s, expires_s, deadline_at_s, now_s, job_id],
    )


def extend(
    db: Database, job_id: int, seen_s: float, expires_s: float, progress: float | None
) -> None:
    """Extend a lease after a heartbeat. ``progress`` None keeps the last one."""
    db.execute(
        """UPDATE jobs SET heartbeat_s = ?, lease_expires_s = max(lease_expires_s, ?),
             progress = coalesce(?, progress) WHERE id = ?""",
        [seen_s, expires_s, progress, job_id])


def extend_pool(db: Database, pool: str, by_s: float) -> None:
    """Extend the leases of ``pool`` by ``by_s``, the time for which their holders were stopped."""
    db.execute(
        """UPDATE jobs SET lease_expires_s = lease_expires_s + ?,
             deadline_at_s = deadline_at_s + ? WHERE state = 'leased' AND pool = ?""",
        [by_s, by_s, pool],
    )


def keep_until(
    db: Database, job_id: int, expires_s: float, latest_deadline_at_s: float
) -> None:
    """After a restart: end the lease at ``expires_s`` unless a heartbeat arrives.

    The stored deadline is limited to these bounds, because the clock may have been set back.
    """
    db.execute(
        """UPDATE jobs SET lease_expires_s = ?1,
             deadline_at_s = max(?1, min(deadline_at_s, ?2)) WHERE id = ?3""",
        [expires_s, latest_deadline_at_s, job_id],
    )


def release(db: Database, job_id: int, strike: bool) -> None:
    """End a lease without a result and queue the job again, with or without a strike. Its time
    limit for a lease no longer applies."""
    db.execute(
        """UPDATE jobs SET state = 'queued', holder = NULL, lease_expires_s = NULL,
             deadline_at_s = NULL, queue_until_s = NULL, progress = NULL, strikes = strikes + ?
           WHERE id = ? AND state = 'leased'""",
        [int(strike), job_id],
    )


def finish(
    db: Database, job_id: int, state: str, now_s: float, *,
    result: Mapping[str, object] | None = None, result_sha256: str | None = None,
    reason: str | None = None, message: str | None = None,
) -> None:
    """End a job: ``state`` is done, failed or cancelled. It gets the next sequence number, so that
    readers miss none."""
    db.execute(
        """UPDATE jobs SET state = ?, result = ?, result_sha256 = ?, reason = ?, message = ?,
             lease_expires_s = NULL, deadline_at_s = NULL, progress = NULL, finished_s = ?,
             finished_seq = ? WHERE id = ?""",
        [state, None if result is None else text(result), result_sha256, reason,
         message, now_s, next_number(db, "finished"), job_id],
    )


def finished(
    db: Database, campaign: str, after: int, limit: int = 100,
    most_bytes: int = MOST_FINISHED_BYTES,
) -> list[JobRow]:
    """Jobs of ``campaign`` that ended after sequence number ``after``, in that order: at most
    ``limit``, and none after the one with which their results exceed ``most_bytes``."""
    ended = """WHERE t.finished_seq > ? AND EXISTS (
                 SELECT 1 FROM job_requests r WHERE r.campaign = ? AND r.job = t.id)
               ORDER BY t.finished_seq LIMIT ?"""
    sizes = db.execute(f"SELECT length(t.result) FROM jobs t {ended}", [after, campaign, limit])
    count = total = 0
    for (size,) in sizes.fetchall():
        if total > most_bytes:
            break
        count, total = count + 1, total + (size or 0)
    return select(db, JobRow, "jobs", ended, [after, campaign, count]) if count else []


def campaigns_of(db: Database, job_id: int) -> list[str]:
    """The campaigns that wait for the job."""
    return [row[0] for row in db.execute(
        "SELECT campaign FROM job_requests WHERE job = ? ORDER BY campaign", [job_id])]


def unwanted(db: Database, campaign: str, limit: int = 100_000) -> list[JobRow]:
    """Unfinished jobs of an ended campaign for which no other campaign waits."""
    return select(
        db, JobRow, "jobs",
        f"""WHERE t.id IN (SELECT job FROM job_requests WHERE campaign = ?)
            AND t.state IN ('queued', 'leased') AND NOT {_NOT_ENDED} ORDER BY t.id LIMIT ?""",
        [campaign, limit],
    )


def only_wanted_by(
    db: Database, campaign: str, kinds: Sequence[str], limit: int = 100_000
) -> list[JobRow]:
    """Queued jobs of ``kinds`` (empty: all) for which only ``campaign`` waits."""
    of_kind = f"AND t.kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
    return select(
        db, JobRow, "jobs",
        f"""WHERE t.id IN (SELECT job FROM job_requests WHERE campaign = ?)
            AND t.state = 'queued' AND NOT t.unowned {of_kind} AND NOT EXISTS (
              SELECT 1 FROM job_requests r WHERE r.job = t.id AND r.campaign <> ?)
            ORDER BY t.id LIMIT ?""",
        [campaign, *kinds, campaign, limit],
    )


def request_cancel(db: Database, job_id: int) -> None:
    db.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", [job_id])


def counts(db: Database, campaign: str) -> dict[str, int]:
    """Number of the campaign's jobs by state."""
    return {row[0]: row[1] for row in db.execute(
        "SELECT state, count(*) FROM jobs WHERE campaign = ? GROUP BY state", [campaign])}


def unfinished(db: Database) -> list[tuple[str, str, int]]:
    """Kind, state and number of queued and leased jobs; ended jobs are not read."""
    return [(str(kind), str(state), int(number)) for kind, state, number in db.execute(
        """SELECT kind, state, count(*) FROM jobs INDEXED BY jobs_to_lease
             WHERE state = 'queued' GROUP BY kind
           UNION ALL SELECT kind, state, count(*) FROM jobs INDEXED BY jobs_leased
             WHERE state = 'leased' GROUP BY kind""")]


def ended_after(db: Database, seq: int) -> list[tuple[str, str, int]]:
    """Kind, state and number of the jobs that ended after sequence number ``seq``."""
    return [(str(kind), str(state), int(number)) for kind, state, number in db.execute(
        "SELECT kind, state, count(*) FROM jobs WHERE finished_seq > ? GROUP BY kind, state",
        [seq])]


def last_fence(db: Database) -> int:
    return _last(db, "fence")


def last_finished(db: Database) -> int:
    return _last(db, "finished")


def _last(db: Database, counter: str) -> int:
    row = db.execute("SELECT value FROM counters WHERE name = ?", [counter]).fetchone()
    return int(row[0])
