"""Jobs, and how quiet devices are, for the search and for people."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from searcher.api.access import TheCoordinator, TheNotifications
from searcher.api.openapi import refusals
from searcher.api.schemas import LONGEST_POLL_S, JobRequest, Name, Number
from searcher.dispatch import queue
from searcher.ledger.rows import JobRow
from searcher.ledger.tables import measurements

ENDED = ("done", "failed", "cancelled")

router = APIRouter(prefix="/v1", tags=["jobs"])


def described(job: JobRow) -> dict[str, Any]:
    """A job as it is shown to those who asked for it."""
    return {
        "job": job.id, "key": job.key, "kind": job.kind, "pool": job.pool, "state": job.state,
        "attempt": job.attempt, "progress": job.progress, "result": job.result,
        "reason": job.reason, "message": job.message, "seq": job.finished_seq,
    }


@router.post("/jobs", responses=refusals(404, 409, 410))
async def submit(coordinator: TheCoordinator, body: JobRequest) -> dict[str, Any]:
    """The job for this request; the same request again is the same job.

    A failed one is tried again only with ``retry``, a cancelled one always. It fails with the
    reason ``queue_timeout`` when nobody leases it within ``queue_s``.
    """
    return described(coordinator.submit(
        body.kind, body.pool, body.payload, body.campaign, body.priority, body.retry,
        body.queue_s))


@router.post("/artifacts/{sha256}/rebuild", responses=refusals(404, 409))
async def rebuild(
    coordinator: TheCoordinator, sha256: str, campaign: Name | None = None
) -> dict[str, Any]:
    """The job that builds a dropped file again from its recipe, for ``campaign`` if one is named.

    Once done, its result's ``difference`` is null, or tells what the new file has other than the
    old one; ``reason`` is then ``different_bytes``.
    """
    return described(coordinator.rebuild(sha256, campaign))


@router.get("/jobs/{job}", responses=refusals(404))
async def job(
    coordinator: TheCoordinator, notifications: TheNotifications, job: Number,
    wait_s: Annotated[float, Query(ge=0, le=LONGEST_POLL_S, allow_inf_nan=False)] = 0.0,
) -> dict[str, Any]:
    """The job, once it has ended or after ``wait_s``."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + wait_s
    while True:
        row = queue.job_of(coordinator.store.db, job)
        left_s = ends_s - loop.time()
        if row.state in ENDED or left_s <= 0 or notifications.closing:
            return described(row)
        await notifications.wait(f"job:{job}", left_s)


@router.get("/quiet-levels")
async def quiet_levels(
    coordinator: TheCoordinator, device: str | None = None, reference: str | None = None
) -> list[dict[str, Any]]:
    """What the reference takes on each device while it is quiet, newest first."""
    rows = measurements.quiet_levels(coordinator.store.db, device, reference)
    return [asdict(row) for row in rows]
