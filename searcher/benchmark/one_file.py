"""Benchmark of one ONNX file on a device of a running coordinator. The file is its own reference,
which reveals drift of the machine.

    upload, if missing --> inspect (builder), unless a builder made the file
                       --> prepare (device), if the runtime needs it --> measure (device)
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.protocol import ArtifactRef, MeasurePayload, MeasurePlan
from searcher.benchmark.two_files import FileComparison, RunJob, compare_files
from searcher.client.http import CoordinatorClient
from searcher.client.jobs import EndedJob, ended, reference_problem
from searcher.client.preparation import with_preparation
from searcher.client.records import Job
from searcher.client.upload import checked_size, upload
from searcher.errors import ProtocolError, UserError, nearest
from searcher.jobs.base import pool_of
from searcher.jobs.inspect import Inspection, InspectRequest
from searcher.jobs.measure import MeasureRequest
from searcher.spec.runtime_options import DEFAULT, LOCAL_DEVICE, Execution, check_offered
from searcher.statistics.energy import energy_notes, figures
from searcher.statistics.measured import MeasureResult
from searcher.statistics.node_summary import node_notes

Say = Callable[[str], None]
"""Receives progress messages."""


@dataclass(frozen=True)
class FileBenchmark:
    """The result that ``fleetfront measure`` prints. ``warnings`` contains the reasons of an
    invalid measurement and doubts about a valid one, ``nodes`` where the nodes ran."""

    values: Mapping[str, float | None]
    intervals: Mapping[str, Sequence[float | None]]
    n: int
    verdict: str
    warnings: Sequence[str]
    nodes: Sequence[str]
    measured_with: str
    environment: Mapping[str, object]


def measure_on(
    client: CoordinatorClient, model: Path, device: str | None, plan: MeasurePlan,
    say: Say = lambda text: None, queue_s: float | None = None, execution: Execution = DEFAULT,
) -> FileBenchmark:
    """Benchmark one ONNX file on a device of the coordinator.

    Raises UserError, also when the device does not start the job within ``queue_s`` or does not
    offer ``execution``; ProtocolError for conflicts.
    """
    size_bytes = checked_size(model)
    chosen = device_of(client, device, execution)
    sha256 = upload(client, model, lambda sent, of: say(f"uploading: {sent * 10 // of * 10} %"))
    request = measure_request(sha256, size_bytes, plan, execution)
    run_job = job_runner(client, chosen, queue_s, say)
    try:
        job = run_job(request)
    except ProtocolError as error:
        if error.status != 409:
            raise
        inspect(client, model, sha256, say)
        job = run_job(request)
    found = file_benchmark(model, job, execution)
    say(f"measured on {chosen}")
    return found


def compare_on(
    client: CoordinatorClient, model: Path, other: Path, device: str | None, seconds: float,
    say: Say = lambda text: None, queue_s: float | None = None, execution: Execution = DEFAULT,
) -> FileComparison:
    """Compare two ONNX files on a device of the coordinator. Raises the same errors as
    ``measure_on``."""
    sizes = {path: checked_size(path) for path in (model, other)}
    chosen = device_of(client, device, execution)
    files = {path: ArtifactRef(upload(client, path), size) for path, size in sizes.items()}

    run_job = job_runner(client, chosen, queue_s)
    try:
        return compare_files(model, other, (files[model], files[other]), run_job, seconds, say,
                             execution)
    except ProtocolError as error:
        if error.status != 409:
            raise
    for path, file in files.items():
        inspect(client, path, file.sha256, say)
    return compare_files(model, other, (files[model], files[other]), run_job, seconds, say,
                         execution)


def job_runner(client: CoordinatorClient, device: str, queue_s: float | None = None,
               say: Say = lambda text: None) -> RunJob:
    """A function that runs one measure job on a device, and before it the preparation that it
    needs."""
    def ask(kind: str, payload: Mapping[str, object]) -> Job:
        job = client.submit_job(kind, pool_of(device), payload, queue_s=queue_s)
        doing = "preparing" if kind == "prepare" else "measuring"
        return _ended(client, job, f"{doing} on {device}", say)

    return lambda request: ended(
        with_preparation(request.kind, request.payload(), ask), request)


def device_of(client: CoordinatorClient, wanted: str | None,
              execution: Execution = DEFAULT) -> str:
    """The name of the device: ``wanted``, else this machine, else the only active device. Raises
    UserError unless it is known, active, and offers ``execution``."""
    rows = {row.name: row for row in client.devices()}
    chosen = _chosen({name: row.state for name, row in rows.items()}, wanted)
    check_offered(execution, chosen, rows[chosen].capabilities)
    return chosen


def _chosen(states: Mapping[str, str], wanted: str | None) -> str:
    if wanted is None:
        active = [name for name, state in states.items() if state == "active"]
        if LOCAL_DEVICE not in active and len(active) != 1:
            raise UserError(
                f"Name the device with --device. Active: {', '.join(sorted(active)) or 'none'}.")
        return LOCAL_DEVICE if LOCAL_DEVICE in active else active[0]
    if wanted not in states:
        raise UserError(f"There is no device {wanted!r}. {nearest(wanted, states)}")
    if states[wanted] != "active":
        raise UserError(f"The device {wanted!r} is {states[wanted]}: it gets no work. Release it, "
                        "or choose another with --device.")
    return wanted


def inspect(client: CoordinatorClient, model: Path, sha256: str, say: Say) -> Inspection:
    """Let a builder inspect an uploaded model. Raises UserError when the model is refused."""
    request = InspectRequest(sha256)
    job = client.submit_job(request.kind, request.runs_on, request.payload(), retry=True)
    found = ended(_ended(client, job, "inspecting", say), request)
    if found.result is None:
        raise UserError(f"{model} could not be inspected: {found.why}")
    if not found.result.accepted:
        raise UserError(f"{model} is refused ({found.result.reason}): {found.result.message}")
    return found.result


def _ended(client: CoordinatorClient, job: Job, doing: str, say: Say) -> Job:
    while not job.has_ended:
        say(doing if job.state == "leased" else f"waiting for {job.pool}")
        job = client.wait_job(job.job, wait_s=2.0)
    return job


def measure_request(sha256: str, size_bytes: int, plan: MeasurePlan,
                    execution: Execution = DEFAULT) -> MeasureRequest:
    """Request to measure a file against itself. A random ``attempt`` makes each request a new
    job."""
    file = ArtifactRef(sha256, size_bytes)
    return MeasureRequest(MeasurePayload(
        file, [file], execution.runtime, execution.options, plan,
        attempt=secrets.randbelow(2**31)))


def file_benchmark(model: Path, job: EndedJob[MeasureResult],
                   execution: Execution = DEFAULT) -> FileBenchmark:
    """The benchmark in an ended job. Raises UserError when the file could not be measured."""
    if job.result is None:
        raise UserError(f"{model} could not be measured: {reference_problem(job) or job.why}.")
    entry = job.result.measurements[0]
    if entry.verdict == "failed":
        raise UserError(f"{model} could not be measured: {', '.join(entry.reasons)}.")
    summary = entry.summary
    values: dict[str, float | None] = {
        "latency_s": None, "latency_p50_s": None, "latency_p90_s": None, "latency_p99_s": None,
        "load_s": entry.load_s, "first_inference_s": entry.first_s,
        "memory_bytes": entry.memory_bytes}
    energy, found = figures(summary)
    intervals: dict[str, Sequence[float | None]] = {**found}
    if summary is not None:
        values["latency_s"] = summary.latency_s
        intervals["latency_s"] = [summary.latency_low_s, summary.latency_high_s]
        for name, quantile in (("latency_p50_s", summary.p50_s), ("latency_p90_s", summary.p90_s),
                               ("latency_p99_s", summary.p99_s)):
            values[name] = quantile.value
            if quantile.value is not None:
                intervals[name] = [quantile.low, quantile.high]
    doubts = () if summary is None else summary.warnings
    return FileBenchmark(
        {**values, **energy}, intervals, 0 if summary is None else summary.n, entry.verdict,
        [*entry.reasons, *doubts, *energy_notes(summary)], node_notes(summary), str(execution),
        job.result.environment)
