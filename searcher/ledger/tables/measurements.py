"""Measurements, their raw samples, meter readings and environments, and quiet levels."""

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zstandard
from sqlite_utils import Database

from searcher.ledger.rows import MeasurementRow, QuietLevelRow, first, select, text

_LARGEST_BLOB_BYTES = 256 * 2**20
_BINARY = b"B"
_COMPRESSOR = zstandard.ZstdCompressor(level=3)

@dataclass(frozen=True)
class RawSamples:
    """Raw samples of one measurement.

    Per block, in seconds: the candidate's median, and the reference's medians before and after
    it. ``calls_ns`` has every timed call of the candidate, ``sample_blocks`` the number of calls
    of each block.
    """

    candidate_s: list[float]
    before_s: list[float]
    after_s: list[float]
    sample_blocks: list[int]
    calls_ns: Sequence[int]


def put_environment(db: Database, environment_hash: str, document: str) -> None:
    """``document`` is JSON."""
    db.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", [environment_hash, document])


def has_environment(db: Database, environment_hash: str) -> bool:
    return db.execute("SELECT 1 FROM environments WHERE hash = ?",
                      [environment_hash]).fetchone() is not None


def environment(db: Database, environment_hash: str) -> dict[str, Any] | None:
    row = db.execute(
        "SELECT document FROM environments WHERE hash = ?", [environment_hash]
    ).fetchone()
    if row is None:
        return None
    document: dict[str, Any] = json.loads(row[0])
    return document


def put(db: Database, row: MeasurementRow) -> int:
    """Insert a measurement. Returns its id."""
    documents = {"options", "plan", "reasons", "summary", "conditions"}
    columns = {name: value for name, value in vars(row).items() if name != "id"}
    cursor = db.execute(
        f"INSERT INTO measurements ({', '.join(columns)}) "
        f"VALUES ({', '.join('?' * len(columns))})",
        [text(value) if name in documents and value is not None else value
         for name, value in columns.items()],
    )
    return int(cursor.lastrowid or 0)


def get(db: Database, measurement_id: int) -> MeasurementRow | None:
    return first(db, MeasurementRow, "measurements", "WHERE id = ?", [measurement_id])


def file_of(db: Database, measurement_id: int) -> str | None:
    """The sha256 of the measured file."""
    row = db.execute("SELECT sha256 FROM measurements WHERE id = ?", [measurement_id]).fetchone()
    return None if row is None else str(row[0])


def of_file(
    db: Database, sha256: str, device: str | None = None, limit: int = 100
) -> list[MeasurementRow]:
    """Newest first."""
    where, parameters = "WHERE sha256 = ?", [sha256]
    if device is not None:
        where, parameters = where + " AND device = ?", [sha256, device]
    return select(
        db, MeasurementRow, "measurements", where + " ORDER BY id DESC LIMIT ?",
        [*parameters, limit],
    )


def put_samples(db: Database, measurement_id: int, samples: RawSamples) -> None:
    seconds = array("d", samples.candidate_s)
    seconds.extend(samples.before_s)
    seconds.extend(samples.after_s)
    blocks = _BINARY + seconds.tobytes() + array("I", samples.sample_blocks).tobytes()
    db.execute("INSERT INTO samples VALUES (?, ?, ?)", [
        measurement_id, _COMPRESSOR.compress(blocks),
        _COMPRESSOR.compress(_packed(samples.calls_ns))])


def compressed_rails(traces: Sequence[Mapping[str, Any]]) -> bytes:
    """Meter readings (``protocol.RailTrace`` as JSON) as they are stored."""
    return _COMPRESSOR.compress(text(traces).encode())


def put_rails(db: Database, measurement_id: int, blob: bytes) -> None:
    """``blob`` is what ``compressed_rails`` returned."""
    db.execute("INSERT INTO rails VALUES (?, ?)", [measurement_id, blob])


def rails(db: Database, measurement_id: int) -> list[dict[str, Any]]:
    """All readings of every rail during the energy measurement; empty without one."""
    row = db.execute(
        "SELECT traces FROM rails WHERE measurement = ?", [measurement_id]).fetchone()
    if row is None:
        return []
    found: list[dict[str, Any]] = json.loads(zstandard.ZstdDecompressor().decompress(
        row[0], max_output_size=_LARGEST_BLOB_BYTES))
    return found


def _packed(calls_ns: Sequence[int]) -> bytes:
    """The type code (8 bytes a call if one took over 4 s, else 4 bytes) and the values."""
    code = "I" if max(calls_ns, default=0) < 2**32 else "Q"
    return code.encode() + array(code, calls_ns).tobytes()


def samples(db: Database, measurement_id: int) -> RawSamples | None:
    row = db.execute(
        "SELECT blocks, calls_ns FROM samples WHERE measurement = ?", [measurement_id]
    ).fetchone()
    if row is None:
        return None
    decompress = zstandard.ZstdDecompressor().decompress
    packed = decompress(row[1], max_output_size=_LARGEST_BLOB_BYTES)
    calls: array[int] = array(packed[:1].decode())
    calls.frombytes(packed[1:])
    blocks = decompress(row[0], max_output_size=_LARGEST_BLOB_BYTES)
    return RawSamples(**_blocks(blocks), calls_ns=calls)


def _blocks(content: bytes) -> dict[str, list[Any]]:
    """The block fields of ``RawSamples``, from binary, or from the JSON of ledger version 1."""
    if not content.startswith(_BINARY):
        found: dict[str, list[Any]] = json.loads(content)
        return found
    n = (len(content) - len(_BINARY)) // (3 * 8 + 4)
    seconds, counts = array("d"), array("I")
    seconds.frombytes(content[len(_BINARY):len(_BINARY) + 24 * n])
    counts.frombytes(content[len(_BINARY) + 24 * n:])
    return {"candidate_s": seconds[:n].tolist(), "before_s": seconds[n:2 * n].tolist(),
            "after_s": seconds[2 * n:].tolist(), "sample_blocks": counts.tolist()}


def quiet_level(
    db: Database, device: str, runtime: str, environment_hash: str, reference_sha256: str,
    options: Mapping[str, Any],
) -> QuietLevelRow | None:
    return first(
        db, QuietLevelRow, "quiet_levels",
        """WHERE device = ? AND runtime = ? AND environment = ? AND reference_sha256 = ?
             AND options = ?""",
        [device, runtime, environment_hash, reference_sha256, text(options)],
    )


def put_quiet_level(db: Database, row: QuietLevelRow) -> None:
    db.execute("INSERT OR REPLACE INTO quiet_levels VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [
        row.device, row.runtime, row.environment, row.reference_sha256, text(row.options),
        row.level_s, row.busy_streak, row.busy_level_s, row.updated_s])


def quiet_levels(
    db: Database, device: str | None = None, reference_sha256: str | None = None, limit: int = 1000
) -> list[QuietLevelRow]:
    """Newest first."""
    return select(
        db, QuietLevelRow, "quiet_levels",
        """WHERE (?1 IS NULL OR device = ?1) AND (?2 IS NULL OR reference_sha256 = ?2)
           ORDER BY updated_s DESC LIMIT ?3""",
        [device, reference_sha256, limit],
    )
