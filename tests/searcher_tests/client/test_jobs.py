"""Submission of jobs, their callbacks, and results for every end of a job."""

from collections.abc import Mapping
from typing import Any

import pytest

from agents.protocol import ArtifactRef, InferPayload
from searcher.client.jobs import EndedJob, JobFlow, ended, reference_problem
from searcher.client.records import FinishedJobs, Job
from searcher.documents import parse
from searcher.errors import DroppedError, ProtocolError
from searcher.jobs.evaluate import EvaluateRequest
from searcher.jobs.infer import InferRequest
from searcher.jobs.measure import file_of
from searcher.statistics.measured import MeasureResult
from tests.searcher_tests.fake_coordinator import evaluation, valid

REQUEST = EvaluateRequest("t", "a" * 64, "test")
DROPPED = "d" * 64


class Coordinator:
    """Accepts every job; the test decides how it ends."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, str, Mapping[str, object], bool]] = []
        self.ends: list[Job] = []
        self.dropped = 0
        self.rebuilt: Job | ProtocolError = Job(9, "queued")

    def submit_job(self, kind: str, pool: str, payload: Mapping[str, object], *, campaign: str,
                   priority: int, retry: bool) -> Job:
        if self.dropped:
            self.dropped -= 1
            raise DroppedError(DROPPED, "it was dropped")
        self.submitted.append((kind, pool, payload, retry))
        return Job(len(self.submitted), "queued")

    def rebuild(self, sha256: str, campaign: str) -> Job:
        assert sha256 == DROPPED
        if isinstance(self.rebuilt, ProtocolError):
            raise self.rebuilt
        return self.rebuilt

    def finished(self, campaign: str, after: int, wait_s: float) -> FinishedJobs:
        jobs, self.ends = tuple(self.ends), []
        return FinishedJobs(jobs, after + len(jobs))


def flow_of(coordinator: Any) -> JobFlow:
    return JobFlow(coordinator, "c", "tx2")


def done(job: int = 1) -> Job:
    return parse(Job, {"job": job, "state": "done", "kind": "evaluate",
                       "result": {"evaluation": evaluation(0.9)}})


def test_the_request_parses_the_result() -> None:
    found = ended(done(), REQUEST)
    assert found.result is not None and (found.result.value, found.job) == (0.9, 1)
    with pytest.raises(ValueError, match="value"):
        ended(Job(1, "done", result={"evaluation": {"metric": "accuracy", "n": 1}}), REQUEST)


@pytest.mark.parametrize(("job", "why"), [
    (Job(1, "failed", reason="crashed", message="signal 9"), "signal 9"),
    (Job(1, "failed", reason="crashed"), "crashed"), (Job(1, "cancelled"), "cancelled")])
def test_a_failed_job_has_a_cause(job: Job, why: str) -> None:
    found = ended(job, REQUEST)
    assert found.result is None and found.why == job.why == why


def test_a_job_that_was_never_submitted_has_no_id() -> None:
    assert ended(Job(0, "failed", reason="not_rebuilt"), REQUEST).job is None


@pytest.mark.parametrize(("job", "reason"), [
    (EndedJob[MeasureResult]("failed", None, "quarantined", "the device is gone"),
     "the device is gone"),
    (EndedJob[MeasureResult]("failed", None, "quarantined"), "quarantined"),
    (EndedJob[MeasureResult]("cancelled", None), "the measurement failed"),
    (EndedJob("done", MeasureResult()), "the measurement failed")])
def test_a_job_that_failed_fails_each_of_its_files(job: EndedJob[MeasureResult],
                                                   reason: str) -> None:
    found = file_of(job, "a" * 64)
    assert (found.sha256, found.verdict, found.reasons) == ("a" * 64, "failed", (reason,))


def test_file_of_finds_the_entry_of_a_file() -> None:
    result = parse(MeasureResult, {"measurements": [
        valid(sha256, ratio, ratio, ratio, row)
        for row, (sha256, ratio) in enumerate([("a", 0.5), ("b", 0.7)])]})
    found = file_of(EndedJob("done", result), "b")
    assert (found.ratio, found.measurement, found.verdict) == (0.7, 1, "valid")


@pytest.mark.parametrize(("reason", "message", "problem"), [
    ("reference", "The reference failed: crashed: signal 9.", "crashed: signal 9"),
    ("reference", "", "it failed"), ("crashed", "signal 9", None)])
def test_a_failed_reference_differs_from_other_failures(
    reason: str, message: str, problem: str | None
) -> None:
    assert reference_problem(EndedJob[object]("failed", None, reason, message)) == problem


def test_each_callback_runs_once_with_its_job() -> None:
    coordinator = Coordinator()
    flow, found = flow_of(coordinator), dict[str, list[EndedJob[Any]]](validation=[], test=[])
    for split, jobs in found.items():
        flow.submit(EvaluateRequest("t", "a" * 64, split), 1, jobs.append)
    assert [pool for _, pool, _, _ in coordinator.submitted] == ["builder", "builder"]
    coordinator.ends = [done(2), done(77)]
    flow.listen(0.0)
    flow.listen(0.0)
    assert found["validation"] == [] and [job.job for job in found["test"]] == [2]


def infer(options: Mapping[str, Any]) -> InferRequest:
    return InferRequest(InferPayload(
        ArtifactRef("a" * 64, 5), ArtifactRef("1" * 64, 9), "trtexec", dict(options), 1))


def test_a_process_retries_a_preparation_once_for_all_equal_payloads() -> None:
    coordinator = Coordinator()
    flow = flow_of(coordinator)
    for options in ({"batch": 1, "precision": "fp16"}, {"precision": "fp16", "batch": 1}):
        flow.submit(infer(options), 1, lambda job: None)
    assert [(kind, pool, retry) for kind, pool, _, retry in coordinator.submitted] == [
        ("prepare", "device:tx2", True), ("prepare", "device:tx2", False)]


def test_a_dropped_file_is_built_again_before_its_job() -> None:
    coordinator = Coordinator()
    coordinator.dropped = 1
    flow, found = flow_of(coordinator), list[EndedJob[Any]]()
    flow.submit(REQUEST, 1, found.append)
    assert coordinator.submitted == []
    coordinator.ends = [Job(9, "done", result={"sha256": DROPPED})]
    flow.listen(0.0)
    assert [kind for kind, _, _, _ in coordinator.submitted] == ["evaluate"] and not found
    coordinator.ends = [done()]
    flow.listen(0.0)
    assert [job.state for job in found] == ["done"]


@pytest.mark.parametrize(("rebuilt", "why"), [
    (Job(9, "failed", reason="build", message="no such task"), "no such task"),
    (Job(9, "cancelled"), "the rebuild was cancelled"),
    (Job(9, "done", result={"sha256": "e" * 64}, reason="different_bytes"), "different_bytes"),
    (ProtocolError("no recipe is known", 409), "no recipe is known")])
def test_a_dropped_file_that_cannot_be_built_again_fails_the_job(
    rebuilt: Job | ProtocolError, why: str
) -> None:
    coordinator = Coordinator()
    coordinator.dropped, coordinator.rebuilt = 1, rebuilt
    found = flow_of(coordinator).wait_for(REQUEST, 1)
    assert (found.state, found.reason, found.job) == ("failed", "not_rebuilt", None)
    assert found.message == f"The dropped file {DROPPED} could not be built again: {why}"
