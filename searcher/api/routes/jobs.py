"""Routes of jobs and quiet levels, for searches and people."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from searcher.api.access import TheCoordinator, TheNotifications
from searcher.api.openapi import refusals
from searcher.api.schemas import LONGEST_POLL_S, JobSubmission, Name, Number
from searcher.dispatch import queue
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import jobs, measurements

router = APIRouter(prefix="/v1", tags=["jobs"])


def described(job: JobRow) -> dict[str, Any]:
    """The document of a job for clients."""
    return {
        "job": job.id, "key": job.key, "kind": job.kind, "pool": job.pool, "state": job.state,
        "attempt": job.attempt, "progress": job.progress, "result": job.result,
        "reason": job.reason, "message": job.message, "seq": job.finished_seq,
        "took_s": (job.finished_s - job.started_s
                   if job.finished_s is not None and job.started_s is not None else None),
    }


@router.post("/jobs", responses=refusals(404, 409, 410))
async def submit(coordinator: TheCoordinator, body: JobSubmission) -> dict[str, Any]:
    """Create a job. An equal request refers to the same job.

    A failed job runs again only with ``retry``, a cancelled job always. A job that is not leased
    within ``queue_s`` fails with the reason ``queue_timeout``.
    """
    return described(coordinator.submit(
        body.kind, body.pool, body.payload, body.campaign, body.priority, body.retry,
        body.queue_s))


@router.post("/artifacts/{sha256}/rebuild", responses=refusals(404, 409))
async def rebuild(
    coordinator: TheCoordinator, sha256: str, campaign: Name | None = None
) -> dict[str, Any]:
    """Create the job that builds a dropped file again from its recipe, for ``campaign`` if given.

    When it is done, ``difference`` in its result is null; or it says how the new file differs from
    the old one, and ``reason`` is ``different_bytes``.
    """
    return described(coordinator.rebuild(sha256, campaign))


@router.get("/jobs/{job}", responses=refusals(404))
async def job(
    coordinator: TheCoordinator, notifications: TheNotifications, job: Number,
    wait_s: Annotated[float, Query(ge=0, le=LONGEST_POLL_S, allow_inf_nan=False)] = 0.0,
) -> dict[str, Any]:
    """The job, when it has ended or after ``wait_s``."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + wait_s
    while True:
        row = queue.job_of(coordinator.store.db, job)
        left_s = ends_s - loop.time()
        if row.state in jobs.ENDED or left_s <= 0 or notifications.closing:
            return described(row)
        await notifications.wait(f"job:{job}", left_s)


@router.get("/quiet-levels")
async def quiet_levels(
    coordinator: TheCoordinator, device: str | None = None, reference: str | None = None
) -> list[dict[str, Any]]:
    """The quiet level of each device and reference, newest first."""
    rows = measurements.quiet_levels(coordinator.store.db, device, reference)
    return [asdict(row) for row in rows]
