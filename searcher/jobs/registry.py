"""The kinds of jobs, one line each; those of third parties come by the entry points
``fleetfront.job_kinds``, each a ``JobKind`` class."""

import hashlib
import re
from collections.abc import Mapping

from searcher.errors import ProtocolError
from searcher.jobs.base import BUILDER, JobKind, JobRequest
from searcher.jobs.build import Compress, Train
from searcher.jobs.evaluate import Evaluate
from searcher.jobs.infer import Infer
from searcher.jobs.inspect import Inspect
from searcher.jobs.measure import Measure
from searcher.jobs.prepare import Prepare
from searcher.ledger.rows import JobRow, text

KINDS: Mapping[str, JobKind] = {kind.name: kind for kind in (
    Compress(), Train(), Evaluate(), Inspect(), Measure(), Infer(), Prepare())}
POOL = re.compile(r"builder|device:[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


def kind_of(name: str, pool: str) -> JobKind:
    """The kind that runs in ``pool``. Raises ProtocolError (400)."""
    if not POOL.fullmatch(pool):
        raise ProtocolError(f"pool = {pool[:120]!r} must be \"builder\" or \"device:<name>\".")
    runs_on = "builder" if pool == BUILDER else "device"
    found = KINDS.get(name)
    if found is None or found.runs_on != runs_on:
        known = (kind.name for kind in KINDS.values() if kind.runs_on == runs_on)
        raise ProtocolError(f"kind = {name[:40]!r} does not run in pool {pool!r}. "
                            f"Use: {', '.join(known)}.")
    return found


def request_of(job: JobRow) -> JobRequest[object]:
    """What a stored job asks for."""
    return KINDS[job.kind].parse(job.payload)


def key_of(kind: str, pool: str, payload: Mapping[str, object]) -> str:
    """The identity of a job: equal requests have equal keys. Raises ProtocolError for NaN."""
    try:
        document = text([kind, pool, payload])
    except ValueError as error:
        raise ProtocolError(f"The payload is no plain JSON: {error}.") from error
    return hashlib.sha256(document.encode()).hexdigest()
