"""Rebuilds: build a dropped file again from its recipe, and report any difference in its bytes.

A rebuild is a separate job, because other rows refer to the result of the first build.
"""

from collections.abc import Mapping
from dataclasses import replace

from sqlite_utils import Database

from searcher.dispatch import queue
from searcher.errors import ProtocolError
from searcher.jobs.base import BUILDER
from searcher.jobs.build import BuildRequest, target_of
from searcher.jobs.registry import key_of, request_of
from searcher.jobs.results import Outcome
from searcher.ledger.rows import ArtifactRow, BuildRow, JobRow
from searcher.ledger.tables import builds, jobs
from searcher.spec.recipe import Recipe

PRIORITY = 45
DIFFERS = "different_bytes"
"""Reason of a rebuild that is done but gave a file with another sha256."""


def request(db: Database, sha256: str) -> BuildRequest:
    """The request that builds the file again.

    Raises ProtocolError: 404 for an unknown file, 409 for a file without a recipe.
    """
    artifact = builds.artifact(db, sha256)
    if artifact is None:
        raise ProtocolError(f"There is no artifact {sha256}.", 404)
    build = builds.of_file(db, sha256) or (
        builds.get(db, artifact.build_key) if artifact.build_key else None)
    if build is None:
        raise ProtocolError(
            f"The file {sha256} was not built from a recipe and cannot be built again. Upload "
            "the original file again.", 409)
    return _rebuild(db, artifact, build)


def _rebuild(db: Database, artifact: ArtifactRow, build: BuildRow) -> BuildRequest:
    first = request_of(queue.job_of(db, build.job))
    again = BuildRequest(
        build.task, Recipe.from_list(builds.recipe(db, build.recipe) or []), build.seed,
        target_of(artifact.target), build.fidelity, rebuild_of=artifact.sha256)
    if not isinstance(first, BuildRequest):
        return again
    return replace(again, threads=first.threads, repair=first.repair, epochs=first.epochs)


def submit(
    db: Database, sha256: str, present: bool, campaign: str | None, now_s: float
) -> JobRow:
    """Submit the job that builds the file again. If the file is ``present``, return the job that
    built it.

    Raises ProtocolError (404, 409).
    """
    asked = request(db, sha256)
    kind, payload = asked.kind, asked.payload()
    build = builds.of_file(db, sha256)
    if present and build is not None:
        return queue.job_of(db, build.job)
    known = jobs.by_key(db, key_of(kind, BUILDER, payload))
    if known is not None and known.state == "done":
        jobs.start_over(db, known.id, done_too=True)
    return queue.submit(
        db, kind, BUILDER, payload, campaign, PRIORITY, True, now_s)


def compared(db: Database, job: JobRow, outcome: Outcome) -> Outcome:
    """The outcome of a job; that of a rebuild has the difference to the dropped file."""
    result = outcome.result
    asked = request_of(job) if job.pool == BUILDER else None
    before = asked.rebuild_of if isinstance(asked, BuildRequest) else None
    if before is None or result is None:
        return outcome
    if result["sha256"] == before:
        return replace(outcome, result={**result, "difference": None})
    difference = _difference(db, before, result)
    return replace(
        outcome, result={**result, "difference": difference}, reason=DIFFERS,
        message=f"Built again, {before} ({difference['file_bytes_before']} bytes) became "
                f"{result['sha256']} ({result['file_bytes']} bytes); outputs on the probe input "
                f"differ by at most {difference['max_abs_difference']}. Its figures were measured "
                "on the dropped file. Packages, processor or data have changed since then.")


def added(outcome: Outcome) -> tuple[int, int]:
    """Upper bound of the bytes that a result added to ``artifacts`` and to the builders' cache."""
    result = outcome.result or {}
    return _bytes(result.get("file_bytes")), _bytes(result.get("cached_bytes"))


def _bytes(size: object) -> int:
    return size if isinstance(size, int) else 0


def _difference(db: Database, before: str, result: Mapping[str, object]) -> dict[str, object]:
    known = builds.artifact(db, before)
    outputs = [builds.expectation(db, str(sha256))[0] for sha256 in (before, result["sha256"])]
    return {
        "sha256_before": before, "sha256_after": result["sha256"],
        "file_bytes_before": known.file_bytes if known else None,
        "file_bytes_after": result["file_bytes"],
        "max_abs_difference": _largest(*outputs),
    }


def _largest(first: list[float] | None, second: list[float] | None) -> float | None:
    """Largest absolute difference; None if outputs are unknown or differ in number."""
    if first is None or second is None or len(first) != len(second):
        return None
    return max((abs(a - b) for a, b in zip(first, second, strict=True)), default=0.0)
