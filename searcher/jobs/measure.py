"""Job kind ``measure``: measure files on a device.

A result becomes measurements, samples and the quiet level of the device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from sqlite_utils import Database

from agents import protocol
from searcher.artifacts.formats.number_formats import tolerance
from searcher.documents import parse
from searcher.errors import ProtocolError
from searcher.jobs import fields, node_times
from searcher.jobs.base import JobKind, JobRequest, Ledger, PoolKind, device_of
from searcher.jobs.samples import samples_of
from searcher.ledger.rows import JobRow, MeasurementRow, QuietLevelRow, text
from searcher.ledger.tables import builds, measurements
from searcher.ledger.tables.measurements import RawSamples
from searcher.statistics import quiet_level
from searcher.statistics.measured import (
    FileMeasurement,
    MeasureResult,
    Summary,
    without_rails,
)

MOST_CANDIDATES = 64
MOST_RAIL_BYTES = 8 * 2**20
_VOLATILE = ("before", "after", "steal_share", "throttled")


@dataclass(frozen=True)
class MeasureRequest(JobRequest[MeasureResult]):
    """Files to measure. Blocks of a candidate alternate with blocks of the reference."""

    message: protocol.MeasurePayload

    @property
    def kind(self) -> str:
        return Measure.name

    @property
    def runs_on(self) -> PoolKind:
        return "device"

    def payload(self) -> dict[str, object]:
        document: dict[str, object] = protocol.as_json(self.message)
        if self.message.profile is None:
            del document["profile"]
        return document

    def result(self, document: Mapping[str, object]) -> MeasureResult:
        return parse(MeasureResult, document)

    def files(self) -> tuple[str, ...]:
        return tuple(file.sha256 for file in (self.message.reference, *self.message.candidates))

    def models(self) -> tuple[str, ...]:
        return self.files()

    def deadline_s(self) -> float:
        """The longest duration of the plan and of the cool-down, with a wide margin for downloads,
        loading, and restarts of child processes."""
        plan = self.message.plan
        longest_s = (plan.max_s + plan.processes * plan.warmup_max_s + plan.energy_s
                     + 2 * plan.idle_s)
        return 120.0 + plan.cool_down_s + len(self.message.candidates) * (3.0 * longest_s + 30.0)

    def weight(self) -> int:
        return len(self.message.candidates)


class MeasuredJob(Protocol):
    """An ended job of this kind in a search."""

    @property
    def result(self) -> MeasureResult | None: ...

    @property
    def reason(self) -> str: ...

    @property
    def message(self) -> str: ...


def file_of(job: MeasuredJob, sha256: str) -> FileMeasurement:
    """The measurement of one file. A failed job gives a failed measurement for each file."""
    for entry in () if job.result is None else job.result.measurements:
        if entry.sha256 == sha256:
            return entry
    return FileMeasurement(
        sha256, "failed", (job.message or job.reason or "the measurement failed",))


class Measure(JobKind):
    """See ``MeasureRequest``."""

    name: ClassVar[str] = "measure"
    runs_on: ClassVar[PoolKind] = "device"
    span: ClassVar[str] = "measure"

    def parse(self, payload: Mapping[str, object]) -> MeasureRequest:
        message = fields.message_of(protocol.MeasurePayload, payload)
        if not 1 <= len(message.candidates) <= MOST_CANDIDATES:
            raise ProtocolError(f"candidates must name 1 to {MOST_CANDIDATES} files, got "
                                f"{len(message.candidates)}.")
        fields.check_run(message.runtime, message.attempt, message.reference, *message.candidates)
        for name in ("max_s", "gate", "energy_s", "idle_s"):
            fields.number_of(getattr(message.plan, name), f"plan.{name}", 0.0)
        return MeasureRequest(message)

    def store(self, ledger: Ledger, job: JobRow, result: Mapping[str, object]
              ) -> dict[str, object]:
        return store(ledger.db, job, result, ledger.now_s)


def store(db: Database, job: JobRow, document: Mapping[str, object],
          now_s: float) -> dict[str, object]:
    """Store the measurements of all candidates of a job, and return the part that the search reads.

    A candidate without usable figures gets a measurement with the verdict ``invalid`` or ``failed``
    and reasons. Raises ProtocolError for a malformed result.
    """
    request = Measure().parse(job.payload).message
    result = protocol.decode(protocol.MeasureResult, dict(document))
    wanted = [file.sha256 for file in request.candidates]
    if sorted(m.sha256 for m in result.measurements) != sorted(wanted):
        raise ProtocolError(
            f"The result has the files {[m.sha256[:12] for m in result.measurements]}, the job has "
            f"{[sha256[:12] for sha256 in wanted]}."
        )
    if result.quiet_level_s is not None and result.quiet_level_s <= 0:
        raise ProtocolError(f"quiet_level_s = {result.quiet_level_s} must be above 0.")
    for file in request.candidates:
        builds.see_artifact(db, file.sha256, file.size_bytes, now_s)
    key = _environment(db, result.environment)
    valid = any(m.verdict == "valid" for m in result.measurements)
    level_s = _level(db, job, request, key, result.quiet_level_s, valid, now_s)
    reference_nodes = node_times.checked(result.reference_nodes, "the reference")
    conditions = {k: v for k, v in result.environment.items() if k in _VOLATILE}
    common = MeasurementRow(
        0, "", request.reference.sha256, device_of(job.pool), request.runtime, request.options,
        key, request.plan._asdict(), request.attempt, job.id, "failed", conditions=conditions,
        created_s=now_s)
    shown: dict[str, object] = {
        "measurements": [
            _stored(db, common, measured, result.quiet_level_s, level_s, request.plan.gate,
                    reference_nodes) for measured in result.measurements],
        "quiet_level_s": level_s, "environment": {**result.environment, "key": key},
        "quiet_share": result.quiet_share, "own_level_s": result.quiet_level_s,
        "device_s": result.device_s}
    if reference_nodes is not None:
        shown["reference_nodes"] = protocol.as_json(reference_nodes)
    return shown


def _environment(db: Database, environment: Mapping[str, object]) -> str:
    """The key of the environment, which is stored if new. Volatile fields are not part of it."""
    key = environment.get("key")
    named = isinstance(key, str) and fields.SHA256.fullmatch(key) is not None
    if named and measurements.has_environment(db, str(key)):
        return str(key)
    kept = {k: v for k, v in environment.items() if k not in (*_VOLATILE, "key")}
    if not named:
        key = protocol.content_sha256(protocol.canonical_json(kept))
    measurements.put_environment(db, str(key), text(kept))
    return str(key)


def _level(
    db: Database, job: JobRow, request: protocol.MeasurePayload, environment: str,
    found_s: float | None, valid: bool, now_s: float,
) -> float | None:
    """The quiet level of the device after this job, stored if it changed. None if unknown."""
    device, reference = device_of(job.pool), request.reference.sha256
    known = measurements.quiet_level(
        db, device, request.runtime, environment, reference, request.options
    )
    if found_s is None:
        return None if known is None else known.level_s
    if known is not None:
        updated = quiet_level.learn(known, found_s, valid, now_s)
        if replace(updated, updated_s=known.updated_s) == known:
            return known.level_s
    elif valid:
        updated = QuietLevelRow(device, request.runtime, environment, reference,
                                request.options, found_s, 0, None, now_s)
    else:
        return None
    measurements.put_quiet_level(db, updated)
    return updated.level_s


def _stored(
    db: Database, common: MeasurementRow, measured: protocol.Measured,
    gate_level_s: float | None, level_s: float | None, gate: float,
    reference_nodes: protocol.NodesMeasured | None,
) -> dict[str, object]:
    """Store the row, samples and rails of one candidate. Returns the part that the search reads."""
    samples = samples_of(measured)
    verdict, reasons = measured.verdict, _texts(measured.reasons)
    warnings = _texts(measured.warnings)
    summary: Summary | None = None
    if verdict == "valid":
        verdict, reasons, summary = _summarised(
            db, measured, samples, gate_level_s, level_s, gate, reasons, warnings)
    energy = without_rails(measured.energy)
    own_nodes = node_times.checked(measured.nodes, measured.sha256)
    if summary is not None and own_nodes is not None:
        summary = node_times.add_node_times(
            db, summary, measured.sha256, common.reference_sha256, own_nodes, reference_nodes,
            common.options)
    if summary is None:
        # Warnings are part of the summary, which only a valid measurement has.
        reasons += [warning for warning in warnings if warning not in reasons]
    elif energy is not None:
        summary = replace(summary, energy=measured.energy)
    row = replace(
        common, conditions={**common.conditions, **({"energy": energy} if energy else {})},
        sha256=measured.sha256, verdict=verdict, reasons=reasons, load_s=measured.load_s,
        first_s=measured.first_s, memory_bytes=_memory_bytes(measured),
        provider=measured.provider[:200],
        summary=None if summary is None else summary.as_document())
    row = row if summary is None else _with_figures(row, summary)
    measurement_id = measurements.put(db, row)
    if samples.candidate_s:
        measurements.put_samples(db, measurement_id, samples)
    rails = _rails(measured)
    if rails is not None:
        measurements.put_rails(db, measurement_id, rails)
    rough = _rough_ratio(samples) if verdict == "invalid" and "busy" in reasons else None
    return {"measurement": measurement_id, "rough_ratio": rough,
            **{name: getattr(row, name) for name in _SHOWN}}


_SHOWN = ("sha256", "verdict", "reasons", "load_s", "first_s", "memory_bytes", "provider",
          "summary", "ratio", "ratio_low", "ratio_high", "quiet_level_s", "latency_s",
          "latency_low_s", "latency_high_s", "n", "quiet_share", "p90_s", "p99_s")
"""Columns of a measurement that the search reads."""


def _with_figures(row: MeasurementRow, summary: Summary) -> MeasurementRow:
    """The row with the columns that fronts use."""
    return replace(
        row, ratio=summary.ratio, ratio_low=summary.ratio_low, ratio_high=summary.ratio_high,
        quiet_level_s=summary.quiet_level_s, latency_s=summary.latency_s,
        latency_low_s=summary.latency_low_s, latency_high_s=summary.latency_high_s, n=summary.n,
        quiet_share=summary.quiet_share, p90_s=summary.p90_s.value, p99_s=summary.p99_s.value)


def _texts(sent: Sequence[str]) -> list[str]:
    return [one[:1000] for one in sent[:20]]


def _rough_ratio(samples: RawSamples) -> float | None:
    from searcher.statistics.latency import rough_ratio

    return rough_ratio({"candidate_s": samples.candidate_s, "before_s": samples.before_s,
                        "after_s": samples.after_s}) if samples.candidate_s else None


def _summarised(
    db: Database, measured: protocol.Measured, samples: RawSamples, gate_level_s: float | None,
    level_s: float | None, gate: float, reasons: list[str], warnings: list[str],
) -> tuple[str, list[str], Summary | None]:
    """Verdict, reasons and summary of a measurement that its agent calls valid.

    Checks the parity of the outputs and the number of quiet blocks.
    """
    from searcher.statistics.latency import summarise  # numpy and scipy: half a second
    from searcher.statistics.parity import parity

    if gate_level_s is None or not samples.candidate_s:
        raise ProtocolError(f"{measured.sha256} has the verdict valid, but no blocks or no level.")
    expected, number_format = builds.expectation(db, measured.sha256)
    if expected is not None:
        # Agents send the first OUTPUT_LIMIT values only.
        head = expected[: protocol.OUTPUT_LIMIT]
        on_gpu = protocol.draws_of(measured.provider) == "gpu"
        difference = parity(head, measured.outputs, tolerance(number_format, on_gpu))
        if difference is not None:
            return "invalid", [*reasons, difference], None
    blocks = {"candidate_s": samples.candidate_s, "before_s": samples.before_s,
              "after_s": samples.after_s}
    try:
        summary = summarise(blocks, samples.calls_ns, samples.sample_blocks, gate_level_s,
                            level_s, gate, measured.session_blocks, warnings)
    except ValueError:
        return "invalid", [*reasons, "busy"], None
    return "valid", reasons, summary


def _rails(measured: protocol.Measured) -> bytes | None:
    """The raw rails in their stored form, None without rails. Raises ProtocolError if they are
    larger than ``MOST_RAIL_BYTES``."""
    if measured.energy is None or not measured.energy.rails:
        return None
    packed = sum(len(rail.times) + len(rail.values) for rail in measured.energy.rails)
    if packed > MOST_RAIL_BYTES:
        raise ProtocolError(f"The rails of {measured.sha256} have {packed} bytes, more than "
                            f"{MOST_RAIL_BYTES}.")
    return measurements.compressed_rails(protocol.as_json(measured.energy.rails))


def _memory_bytes(measured: protocol.Measured) -> int | None:
    if measured.memory_bytes is None:
        return None
    return fields.whole_of(measured.memory_bytes, "memory_bytes")
