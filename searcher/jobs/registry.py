"""The job kinds: one line each, and the entry points ``fleetfront.job_kinds``."""

import hashlib
import re
from collections.abc import Mapping
from functools import cache

from searcher.entry_points import Registry
from searcher.errors import ProtocolError, UserError
from searcher.jobs.base import BUILDER, JobKind, JobRequest
from searcher.ledger.rows import JobRow, text

KINDS: Registry[JobKind] = Registry(
    "fleetfront.job_kinds", "job kind", "searcher.jobs.base:JobKind", {
        "compress": "searcher.jobs.build:Compress",
        "train": "searcher.jobs.build:Train",
        "evaluate": "searcher.jobs.evaluate:Evaluate",
        "inspect": "searcher.jobs.inspect:Inspect",
        "measure": "searcher.jobs.measure:Measure",
        "infer": "searcher.jobs.infer:Infer",
        "prepare": "searcher.jobs.prepare:Prepare",
        "check_task": "searcher.jobs.check_task:CheckTask",
        "scan": "searcher.jobs.scan:Scan",
    })
"""{name: ``module:class``}."""
POOL = re.compile(r"builder|device:[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


@cache
def named(name: str) -> JobKind:
    """The kind ``name``. Raises UserError for an unknown name."""
    return KINDS.get(name)()


def kind_of(name: str, pool: str) -> JobKind:
    """The kind ``name``, which must run in ``pool``. Raises ProtocolError (400)."""
    if not POOL.fullmatch(pool):
        raise ProtocolError(f"pool = {pool[:120]!r} must be \"builder\" or \"device:<name>\".")
    runs_on = "builder" if pool == BUILDER else "device"
    try:
        found = named(name) if name in KINDS.names() else None
    except UserError as error:
        raise ProtocolError(str(error)) from error
    if found is None or found.runs_on != runs_on:
        known = (kind for kind in KINDS.names() if named(kind).runs_on == runs_on)
        raise ProtocolError(f"kind = {name[:40]!r} does not run in pool {pool!r}. "
                            f"Use: {', '.join(known)}.")
    return found


def request_of(job: JobRow) -> JobRequest[object]:
    """The request of a stored job."""
    return named(job.kind).parse(job.payload)


def key_of(kind: str, pool: str, payload: Mapping[str, object]) -> str:
    """The key of a job, equal for equal requests. Raises ProtocolError for NaN."""
    try:
        document = text([kind, pool, payload])
    except ValueError as error:
        raise ProtocolError(f"The payload is not plain JSON: {error}.") from error
    return hashlib.sha256(document.encode()).hexdigest()
