"""The rules of the queue: submission, leases, accepted results.

Execution is at least once, acceptance at most once. Each lease has a fence, a number from one
increasing counter. A result is accepted only with the fence of the lease that is in force.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlite_utils import Database

from searcher.devices import health
from searcher.errors import ProtocolError
from searcher.jobs.base import BUILDER, device_of
from searcher.jobs.registry import key_of, kind_of, request_of
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.tables import campaigns, devices, jobs

RETRIED_REASONS = ("no_builder", "disk_full", "io", "queue_timeout", "device_removed")
"""Reasons of failures after which a new request for the same job starts it again."""


@dataclass(frozen=True)
class LeaseRules:
    """Seconds until a lease without heartbeats ends; number of lost leases that fail a job."""

    builder_ttl_s: float = 60.0
    device_ttl_s: float = 30.0
    most_strikes: int = 3

    def ttl_s(self, pool: str) -> float:
        return self.builder_ttl_s if pool == BUILDER else self.device_ttl_s


def job_of(db: Database, job_id: int) -> JobRow:
    """Raises ProtocolError (404)."""
    job = jobs.get(db, job_id)
    if job is None:
        raise ProtocolError(f"There is no job {job_id}.", 404)
    return job


def submit(
    db: Database, kind: str, pool: str, payload: Mapping[str, object], campaign: str | None,
    priority: int, retry: bool, now_s: float, queue_s: float | None = None,
) -> JobRow:
    """The job for this request; equal requests have one job.

    A cancelled job starts again. A failed job starts again with ``retry``, or if its reason is in
    ``RETRIED_REASONS``. ``queue_s`` limits the wait for the first lease; of several requests for
    one job, the longest limit counts. Raises ProtocolError (400, 404 for an unknown campaign, 409
    for a removed device).
    """
    kind_of(kind, pool).parse(payload)
    if campaign is not None and campaigns.get(db, campaign) is None:
        raise ProtocolError(f"There is no campaign {campaign[:100]!r}.", 404)
    key = key_of(kind, pool, payload)
    known = jobs.by_key(db, key)
    if known is None:
        job_id = jobs.create(db, key, kind, pool, campaign, dict(payload), priority, now_s)
        queued_now = True
    else:
        job_id = known.id
        retried = known.state == "failed" and (retry or known.reason in RETRIED_REASONS)
        queued_now = retried or known.state == "cancelled"
        if queued_now:
            jobs.start_over(db, job_id)
    jobs.want(db, job_id, campaign, priority)
    jobs.may_wait(db, job_id, None if queue_s is None else now_s + queue_s, queued_now)
    job = job_of(db, job_id)
    if job.state == "queued":
        _refuse_removed(db, pool)
    return job


def _refuse_removed(db: Database, pool: str) -> None:
    name = device_of(pool)
    if pool != BUILDER and devices.device_state(db, name) == "removed":
        raise ProtocolError(
            f"Device {name!r} was removed. Enrol it again with `fleetfront device enrol {name}`, "
            "or use another device.", 409
        )


def is_done(db: Database, kind: str, pool: str, payload: Mapping[str, object]) -> bool:
    """Whether an equal request already has its result, so that no file is needed."""
    known = jobs.by_key(db, key_of(kind, pool, payload))
    return known is not None and known.state == "done"


def grant(db: Database, job: JobRow, agent: AgentRow, rules: LeaseRules, now_s: float) -> JobRow:
    """Lease a queued job to ``agent``. The transaction makes its fence durable."""
    ttl_s = rules.ttl_s(job.pool)
    deadline_at_s = now_s + request_of(job).deadline_s() + ttl_s
    jobs.grant(db, job.id, agent.id, now_s + ttl_s, deadline_at_s, now_s)
    return job_of(db, job.id)


def leased_job(db: Database, job_id: int, fence: int, agent: AgentRow) -> JobRow:
    """The job that ``agent`` has leased with this fence. Raises ProtocolError (404, 409)."""
    job = job_of(db, job_id)
    _check_lease(job, fence, agent)
    return job


def _check_lease(job: JobRow, fence: int, agent: AgentRow) -> None:
    if job.state != "leased" or job.fence != fence or job.holder != agent.id:
        raise ProtocolError(
            f"The lease of job {job.id} with fence {fence} is not in force: the job is "
            f"{job.state}, its last fence is {job.fence}. Stop this work and request a lease.", 409
        )


def heartbeat(
    db: Database, job_id: int, fence: int, agent: AgentRow, progress: float | None,
    rules: LeaseRules, now_s: float,
) -> Literal["continue", "cancel"]:
    """Extend a lease. Returns "cancel" after the deadline or a cancellation.

    Raises ProtocolError (404, 409).
    """
    job = leased_job(db, job_id, fence, agent)
    if job.deadline_at_s is not None and now_s >= job.deadline_at_s:
        return "cancel"
    jobs.extend(db, job_id, now_s, now_s + rules.ttl_s(job.pool), progress)
    return "cancel" if job.cancel_requested else "continue"


def already_accepted(
    job: JobRow, attempt: int, fence: int, agent: AgentRow, sha256: str
) -> bool:
    """Whether this result is already stored. Raises ProtocolError (409) for a new result whose
    lease is not in force."""
    same = (job.fence, job.attempt, job.holder) == (fence, attempt, agent.id)
    if same and job.state in jobs.ENDED and job.result_sha256 is not None:
        if job.result_sha256 == sha256:
            return True
        raise ProtocolError(
            f"Another result of job {job.id}, attempt {attempt}, was already accepted "
            f"(sha256 {job.result_sha256}).", 409
        )
    if job.attempt != attempt:
        raise ProtocolError(
            f"Job {job.id} is at attempt {job.attempt}, the result has attempt {attempt}.", 409
        )
    _check_lease(job, fence, agent)
    return False


def expired(db: Database, now_s: float, builders_stopped: bool) -> list[JobRow]:
    """Leases whose time is over. The leases of stopped builders do not expire."""
    return jobs.lease_over(db, now_s, BUILDER if builders_stopped else None)


def lose(
    db: Database, job: JobRow, strike: bool, why: str, rules: LeaseRules, now_s: float
) -> str:
    """End a lease without a result. Returns the new state of the job.

    ``strike``: the job itself may be the cause. It fails after ``most_strikes`` strikes.
    """
    if job.cancel_requested:
        jobs.finish(db, job.id, "cancelled", now_s, reason="cancelled", message=why)
        return "cancelled"
    if strike and job.strikes + 1 >= rules.most_strikes:
        jobs.finish(
            db, job.id, "failed", now_s, reason="quarantined",
            message=f"Failed after {job.strikes + 1} attempts without a result; the last: {why}.",
        )
        return "failed"
    jobs.release(db, job.id, strike)
    return "queued"


def time_out(db: Database, late: Sequence[JobRow], now_s: float) -> None:
    """Fail jobs that were not leased within their time limit."""
    for job in late:
        why = ("no builder was free" if job.pool == BUILDER
               else health.absence(db, device_of(job.pool), now_s))
        jobs.finish(
            db, job.id, "failed", now_s, reason="queue_timeout",
            message=f"The job was not leased within its time limit: {why}.",
        )


def fail_pool(db: Database, pool: str, why: str, now_s: float) -> list[JobRow]:
    """Fail all queued and leased jobs of a removed device. Returns them in their old state."""
    failed = [*jobs.leased(db, pool), *jobs.list_waiting(db, pool)]
    for job in failed:
        jobs.finish(db, job.id, "failed", now_s, reason="device_removed", message=why)
    return failed


def cancel_unwanted(db: Database, campaign: str, now_s: float) -> list[JobRow]:
    """After the end of a campaign: cancel its queued jobs and request the end of its leased ones,
    except jobs that others wait for. Returns the cancelled jobs."""
    cancelled = []
    for job in jobs.unwanted(db, campaign):
        if job.state == "queued":
            jobs.finish(
                db, job.id, "cancelled", now_s, reason="cancelled",
                message=f"Campaign {campaign} ended before the job started.",
            )
            cancelled.append(job)
        else:
            jobs.request_cancel(db, job.id)
    return cancelled


def cancel_queued(
    db: Database, campaign: str, kinds: Sequence[str], now_s: float
) -> list[JobRow]:
    """Cancel the campaign's queued jobs of these kinds that nobody else requested."""
    cancelled = jobs.only_wanted_by(db, campaign, kinds)
    for job in cancelled:
        jobs.finish(
            db, job.id, "cancelled", now_s, reason="cancelled",
            message=f"Campaign {campaign} cancelled the job before it started.",
        )
    return cancelled
