"""The result of a ``measure`` job -> measurements, samples and the device's quiet level.

Judged first, without writing (``draft``, wherever that is done), then stored in one stroke.
"""

import base64
import binascii
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlite_utils import Database

from agents import protocol
from searcher.artifacts.formats.number_formats import tolerance
from searcher.errors import ProtocolError
from searcher.jobs import fields, node_times, requests
from searcher.ledger.rows import JobRow, QuietLevelRow, text
from searcher.ledger.tables import builds, measurements
from searcher.ledger.tables.measurements import Level, LevelPlace, Samples
from searcher.statistics import quiet_level

MOST_SAMPLE_BYTES = 128 * 2**20
MOST_RAIL_BYTES = 8 * 2**20
_VOLATILE = ("before", "after", "steal_share", "throttled")


class Draft(NamedTuple):
    """What a result will put into the ledger, judged and written out; plain values throughout.

    It holds for the quiet level that was changed last at ``level_since_s`` (None: there was
    none); ``level`` is the new one, None when it stays. ``shown`` has, per candidate, what the
    search gets to know, ``rest`` that of the whole job; both are JSON objects.
    """

    files: list[tuple[str, int]]
    environment: tuple[str, str] | None
    level_place: LevelPlace
    level_since_s: float | None
    level: Level | None
    rows: list[dict[str, Any]]
    blobs: list[tuple[bytes, bytes] | None]
    rails: list[bytes | None]
    shown: list[str]
    rest: str
    made_s: float


def draft(db: Database, job: JobRow, document: Mapping[str, Any], now_s: float) -> Draft:
    """Judge all candidates of one job; nothing is written.

    Raises ProtocolError when the result is malformed; a candidate whose figures cannot be used
    is a measurement with the verdict ``invalid`` or ``failed`` and its reasons.
    """
    request = requests.stored_measure_request(job.payload)
    result = protocol.decode(protocol.MeasureResult, dict(document))
    wanted = [file.sha256 for file in request.candidates]
    if sorted(m.sha256 for m in result.measurements) != sorted(wanted):
        raise ProtocolError(
            f"The result is about {[m.sha256[:12] for m in result.measurements]}, the job about "
            f"{[sha256[:12] for sha256 in wanted]}."
        )
    if result.quiet_level_s is not None and result.quiet_level_s <= 0:
        raise ProtocolError(f"quiet_level_s = {result.quiet_level_s} must be above 0.")
    key, unknown = _environment(db, result.environment)
    valid = any(m.verdict == "valid" for m in result.measurements)
    known, learnt = _levels(db, job, request, key, result.quiet_level_s, valid, now_s)
    level_s = None if learnt is None else learnt.level_s
    device = requests.device_of(job.pool)
    common = {
        "reference_sha256": request.reference.sha256, "device": device,
        "runtime": request.runtime, "options": request.options, "environment": key,
        "plan": request.plan._asdict(), "attempt": request.attempt, "job": job.id,
        "conditions": {k: v for k, v in result.environment.items() if k in _VOLATILE},
        "created_s": now_s,
    }
    reference_nodes = node_times.kept(result.reference_nodes, "the reference")
    judged = [_judged(db, common, measured, result.quiet_level_s, level_s, request.plan.gate,
                      reference_nodes) for measured in result.measurements]
    rest = {"quiet_level_s": level_s, "environment": {**result.environment, "key": key},
            "quiet_share": result.quiet_share, "own_level_s": result.quiet_level_s,
            "device_s": result.device_s}
    if reference_nodes is not None:
        rest["reference_nodes"] = protocol.as_json(reference_nodes)
    return Draft(
        [(file.sha256, file.size_bytes) for file in request.candidates
         if not builds.is_seen(db, file.sha256)],
        unknown,
        (device, request.runtime, key, request.reference.sha256, text(request.options)),
        None if known is None else known.updated_s, _changed(known, learnt),
        [row for row, _, _ in judged], [blobs for _, blobs, _ in judged],
        [_rails(measured) for measured in result.measurements],
        [text(shown) for _, _, shown in judged], text(rest), now_s)


def still_holds(db: Database, drafted: Draft) -> bool:
    """Whether nothing that it was judged by has changed."""
    return measurements.level_since(db, drafted.level_place) == drafted.level_since_s


def store(db: Database, drafted: Draft) -> str:
    """Write what was judged; what the search gets to know is returned, as JSON."""
    for sha256, size_bytes in drafted.files:
        builds.see_artifact(db, sha256, size_bytes, drafted.made_s)
    if drafted.environment is not None:
        measurements.put_environment(db, *drafted.environment)
    if drafted.level is not None:
        measurements.put_quiet_level(db, drafted.level_place, drafted.level)
    told = []
    for row, blobs, rails, shown in zip(
            drafted.rows, drafted.blobs, drafted.rails, drafted.shown, strict=True):
        measurement_id = measurements.put_written(db, row)
        if blobs is not None:
            measurements.put_samples(db, measurement_id, blobs)
        if rails is not None:
            measurements.put_rails(db, measurement_id, rails)
        told.append(f'{{"measurement":{measurement_id},{shown[1:]}')
    return f'{{"measurements":[{",".join(told)}],{drafted.rest[1:]}'


def _environment(
    db: Database, environment: Mapping[str, Any]
) -> tuple[str, tuple[str, str] | None]:
    """The environment's key, and key and document if they are new; what changes from job to job
    is no part of it."""
    key = environment.get("key")
    named = isinstance(key, str) and fields.SHA256.fullmatch(key) is not None
    if named and measurements.has_environment(db, str(key)):
        return str(key), None
    kept = {k: v for k, v in environment.items() if k not in (*_VOLATILE, "key")}
    if not named:
        key = protocol.content_sha256(protocol.canonical_json(kept))
    return str(key), (str(key), text(kept))


def _levels(
    db: Database, job: JobRow, request: protocol.MeasurePayload, environment: str,
    found_s: float | None, valid: bool, now_s: float,
) -> tuple[QuietLevelRow | None, QuietLevelRow | None]:
    """The quiet level by which the device was known before this job and is after it; None while
    it has none."""
    device, reference = requests.device_of(job.pool), request.reference.sha256
    known = measurements.quiet_level(
        db, device, request.runtime, environment, reference, request.options
    )
    if found_s is None:
        return known, known
    if known is not None:
        return known, quiet_level.learn(known, found_s, valid, now_s)
    if not valid:
        return None, None
    return None, QuietLevelRow(
        device, request.runtime, environment, reference, request.options, found_s, 0, None, now_s)


def _changed(known: QuietLevelRow | None, learnt: QuietLevelRow | None) -> Level | None:
    """What is to be stored of ``learnt``, if it says anything new."""
    if learnt is None or known and replace(learnt, updated_s=known.updated_s) == known:
        return None
    return learnt.level_s, learnt.busy_streak, learnt.busy_level_s, learnt.updated_s


def _judged(
    db: Database, common: Mapping[str, Any], measured: protocol.Measured,
    gate_level_s: float | None, level_s: float | None, gate: float,
    reference_nodes: protocol.NodesMeasured | None,
) -> tuple[dict[str, Any], tuple[bytes, bytes] | None, dict[str, Any]]:
    """One candidate: its row, its samples, and what is shown of it."""
    samples = _samples(measured)
    verdict, reasons = measured.verdict, _texts(measured.reasons)
    warnings = _texts(measured.warnings)
    summary: dict[str, Any] | None = None
    if verdict == "valid":
        verdict, reasons, summary = _summarised(
            db, measured, samples, gate_level_s, level_s, gate, reasons, warnings)
    energy = _energy(measured)
    own_nodes = node_times.kept(measured.nodes, measured.sha256)
    if summary is not None and own_nodes is not None:
        node_times.entered(db, summary, measured.sha256, common["reference_sha256"], own_nodes,
                      reference_nodes, common["options"])
    if summary is None:
        # Only a summary keeps warnings, and what is not valid has none.
        reasons += [warning for warning in warnings if warning not in reasons]
    elif energy is not None:
        summary["energy"] = energy
    columns = {
        **common, "conditions": common["conditions"] | ({"energy": energy} if energy else {}),
        "sha256": measured.sha256, "verdict": verdict, "reasons": reasons,
        "load_s": measured.load_s, "first_s": measured.first_s,
        "memory_bytes": _memory_bytes(measured), "provider": measured.provider[:200],
        "summary": summary, **_figures(summary),
    }
    rough = _rough_ratio(samples) if verdict == "invalid" and "busy" in reasons else None
    shown = ("sha256", "verdict", "reasons", "load_s", "first_s", "memory_bytes", "provider",
             "summary")
    return (
        measurements.written(columns),
        measurements.compressed(samples) if samples.candidate_s else None,
        {**{name: columns[name] for name in shown}, **_figures(summary), "rough_ratio": rough})


def _texts(sent: Sequence[str]) -> list[str]:
    return [one[:1000] for one in sent[:20]]


def _rough_ratio(samples: Samples) -> float | None:
    from searcher.statistics.latency import rough_ratio

    return rough_ratio({"candidate_s": samples.candidate_s, "before_s": samples.before_s,
                        "after_s": samples.after_s}) if samples.candidate_s else None


def _summarised(
    db: Database, measured: protocol.Measured, samples: Samples, gate_level_s: float | None,
    level_s: float | None, gate: float, reasons: list[str], warnings: list[str],
) -> tuple[str, list[str], dict[str, Any] | None]:
    """Verdict, reasons and summary of what its agent calls valid: parity and quiet blocks."""
    from searcher.statistics.latency import summarise  # numpy and scipy: half a second
    from searcher.statistics.parity import parity

    if gate_level_s is None or not samples.candidate_s:
        raise ProtocolError(f"{measured.sha256} is called valid but has no blocks or no level.")
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
    return "valid", reasons, summary.as_dict()


def _figures(summary: Mapping[str, Any] | None) -> dict[str, Any]:
    if summary is None:
        return {}
    names = ("ratio", "ratio_low", "ratio_high", "quiet_level_s", "latency_s", "latency_low_s",
             "latency_high_s", "n", "quiet_share")
    return {
        **{name: summary[name] for name in names},
        "p90_s": summary["p90_s"]["value"], "p99_s": summary["p99_s"]["value"],
    }


def _energy(measured: protocol.Measured) -> dict[str, Any] | None:
    """Figures and windows as the agent told them."""
    if measured.energy is None:
        return None
    told: dict[str, Any] = protocol.as_json(measured.energy._replace(rails=[]))
    del told["rails"]
    return told


def _rails(measured: protocol.Measured) -> bytes | None:
    """Raw rails as they are stored; None without any. Raises ProtocolError when they are too
    large to be kept."""
    if measured.energy is None or not measured.energy.rails:
        return None
    packed = sum(len(rail.times) + len(rail.values) for rail in measured.energy.rails)
    if packed > MOST_RAIL_BYTES:
        raise ProtocolError(f"The rails of {measured.sha256} have {packed} bytes, over "
                            f"{MOST_RAIL_BYTES}.")
    return measurements.compressed_rails(protocol.as_json(measured.energy.rails))


def _memory_bytes(measured: protocol.Measured) -> int | None:
    if measured.memory_bytes is None:
        return None
    return fields.whole_of(measured.memory_bytes, "memory_bytes")


def _samples(measured: protocol.Measured) -> Samples:
    """Raises ProtocolError unless blocks and calls agree and all durations are above 0."""
    blocks, per_block = measured.blocks, measured.sample_blocks
    lengths = {len(blocks.candidate_s), len(blocks.before_s), len(blocks.after_s), len(per_block)}
    if len(lengths) > 1:
        raise ProtocolError(
            f"The blocks of {measured.sha256} differ in number: {sorted(lengths)}."
        )
    for seconds in blocks:
        if seconds and min(seconds) <= 0:
            raise ProtocolError(f"A block of {measured.sha256} took no time or less.")
    calls = unpacked(measured.samples)
    if measured.session_blocks and (
            min(measured.session_blocks) < 0 or sum(measured.session_blocks) != len(per_block)):
        raise ProtocolError(f"The sessions of {measured.sha256} name other blocks than it has.")
    if (per_block and min(per_block) < 1) or sum(per_block) != len(calls):
        raise ProtocolError(
            f"{measured.sha256} has {len(calls)} timed calls, its blocks name {sum(per_block)}."
        )
    return Samples(blocks.candidate_s, blocks.before_s, blocks.after_s, per_block, calls)


def unpacked(samples: str) -> Sequence[int]:
    """Nanoseconds out of ``protocol.pack_samples``, of bounded size. Raises ProtocolError."""
    if not samples:
        return array("I")
    wide = samples.startswith("Q:")
    unpacker = zlib.decompressobj()
    try:
        packed = base64.b64decode(samples[2:] if wide else samples, validate=True)
        content = unpacker.decompress(packed, MOST_SAMPLE_BYTES)
        if not unpacker.eof:
            raise ProtocolError(f"Samples unpack to over {MOST_SAMPLE_BYTES} bytes or end early.")
        values: array[int] = array("Q" if wide else "I")
        values.frombytes(content)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ProtocolError(f"Samples cannot be unpacked: {error}.") from error
    if sys.byteorder == "big":
        values.byteswap()
    return values


