"""One ONNX file measured on a device of a running coordinator; the file is its own reference, so
that drift of the machine shows.

    upload, if it is not there --> inspect, in a builder, if a builder did not make it
                               --> prepare, on the device, where the runtime needs it --> measure
"""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from searcher.benchmark.two_files import RunJob, against
from searcher.client.http import CoordinatorClient, Kind
from searcher.client.jobs import ENDED, reference_problem
from searcher.client.preparation import with_preparation
from searcher.client.upload import checked_size, upload
from searcher.errors import ProtocolError, UserError, nearest
from searcher.spec.measurement_plan import Plan
from searcher.spec.runtime_options import DEFAULT, LOCAL_DEVICE, Execution, check_offered
from searcher.statistics.energy import energy_notes, figures
from searcher.statistics.node_summary import node_notes

Say = Callable[[str], None]
"""Called with what is going on, whenever it changes."""


def measure_on(
    client: CoordinatorClient, model: Path, device: str | None, plan: Plan,
    say: Say = lambda text: None, queue_s: float | None = None, execution: Execution = DEFAULT,
) -> dict[str, Any]:
    """The document of ``fleetfront measure``. Raises UserError, also when the device does not
    begin within ``queue_s`` or does not offer ``execution``; ProtocolError for conflicts."""
    size_bytes = checked_size(model)
    chosen = device_of(client, device, execution)
    sha256 = upload(client, model, lambda sent, of: say(f"uploading: {sent * 10 // of * 10} %"))
    request = request_of(sha256, size_bytes, plan, execution)
    run_job = job_runner(client, chosen, queue_s, say)
    try:
        job = run_job(request)
    except ProtocolError as error:
        if error.status != 409:
            raise
        inspect(client, model, sha256, say)
        job = run_job(request)
    document = measured_document(model, job, execution)
    say(f"measured on {chosen}")
    return document


def compare_on(
    client: CoordinatorClient, model: Path, other: Path, device: str | None, seconds: float,
    say: Say = lambda text: None, queue_s: float | None = None, execution: Execution = DEFAULT,
) -> dict[str, Any]:
    """The document of ``fleetfront measure --against``. Raises as ``measure_on`` does."""
    sizes = {path: checked_size(path) for path in (model, other)}
    chosen = device_of(client, device, execution)
    files = {path: {"sha256": upload(client, path), "size_bytes": size}
             for path, size in sizes.items()}

    run_job = job_runner(client, chosen, queue_s)
    try:
        return against(model, other, (files[model], files[other]), run_job, seconds, say,
                       execution)
    except ProtocolError as error:
        if error.status != 409:
            raise
    for path, file in files.items():
        inspect(client, path, str(file["sha256"]), say)
    return against(model, other, (files[model], files[other]), run_job, seconds, say, execution)


def job_runner(client: CoordinatorClient, device: str, queue_s: float | None = None,
               say: Say = lambda text: None) -> RunJob:
    """Runs one measure job after another on a device, each with what has to be prepared."""
    def ask(kind: Kind, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        job = client.submit_job(kind, f"device:{device}", payload, queue_s=queue_s)
        doing = "preparing" if kind == "prepare" else "measuring"
        return _ended(client, job, f"{doing} on {device}", say)

    return lambda payload: dict(with_preparation("measure", payload, ask))


def device_of(client: CoordinatorClient, wanted: str | None,
              execution: Execution = DEFAULT) -> str:
    """``wanted``, else this machine, else the only device. Raises UserError unless it is there,
    active, and offers ``execution``."""
    rows = {row["name"]: row for row in client.devices()}
    chosen = _chosen({name: row["state"] for name, row in rows.items()}, wanted)
    check_offered(execution, chosen, rows[chosen]["capabilities"])
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


def inspect(client: CoordinatorClient, model: Path, sha256: str, say: Say) -> dict[str, Any]:
    """What a builder finds in an uploaded model. Raises UserError when it is refused."""
    job = client.submit_job("inspect", "builder", {"sha256": sha256}, retry=True)
    job = _ended(client, job, "inspecting", say)
    if job["state"] != "done":
        raise UserError(f"{model} could not be inspected: {job['message'] or job['reason']}")
    found: dict[str, Any] = job["result"]["inspection"]
    if not found["accepted"]:
        raise UserError(f"{model} is refused ({found['reason']}): {found['message']}")
    return found


def _ended(client: CoordinatorClient, job: dict[str, Any], doing: str, say: Say) -> dict[str, Any]:
    while job["state"] not in ENDED:
        say(doing if job["state"] == "leased" else f"waiting for {job['pool']}")
        job = client.wait_job(job["job"], wait_s=2.0)
    return job


def request_of(sha256: str, size_bytes: int, plan: Plan,
               execution: Execution = DEFAULT) -> dict[str, Any]:
    """The payload of the measurement; measured anew each time."""
    file = {"sha256": sha256, "size_bytes": size_bytes}
    return {
        "reference": file, "candidates": [file], "runtime": execution.runtime,
        "options": execution.options, "plan": plan.as_dict(), "quiet_level_s": None,
        "input_seed": 0, "attempt": secrets.randbelow(2**31),
    }


def measured_document(model: Path, job: dict[str, Any],
                      execution: Execution = DEFAULT) -> dict[str, Any]:
    """``values, intervals, n, verdict, warnings, nodes, measured_with, environment`` of an ended
    job. Raises UserError when the file could not be measured."""
    if job["state"] != "done":
        why = reference_problem(job) or job["message"] or job["reason"]
        raise UserError(f"{model} could not be measured: {why}.")
    result = job["result"]
    entry = result["measurements"][0]
    if entry["verdict"] == "failed":
        raise UserError(f"{model} could not be measured: {', '.join(entry['reasons'])}.")
    summary = entry.get("summary") or {}
    quantiles = {f"latency_{name}": summary.get(name) or {} for name in ("p50_s", "p90_s", "p99_s")}
    values = {"latency_s": summary.get("latency_s"),
              **{name: found.get("value") for name, found in quantiles.items()},
              "load_s": entry["load_s"], "first_inference_s": entry["first_s"],
              "memory_bytes": entry.get("memory_bytes")}
    energy, intervals = figures(summary)
    values |= energy
    if summary:
        intervals["latency_s"] = [summary["latency_low_s"], summary["latency_high_s"]]
        intervals |= {name: [found["low"], found["high"]] for name, found in quantiles.items()
                      if found.get("value") is not None}
    return {"values": values, "intervals": intervals, "n": summary.get("n", 0),
            "verdict": entry["verdict"],
            "warnings": [*entry["reasons"], *summary.get("warnings", []), *energy_notes(summary)],
            "nodes": node_notes(summary), "measured_with": str(execution),
            "environment": result["environment"]}
