"""What the ledger returns: one frozen dataclass per table, JSON columns already decoded."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

from sqlite_utils import Database

Row = TypeVar("Row")


DOCUMENTS = frozenset({
    "spec", "baseline", "fingerprint", "capabilities", "payload", "result", "report", "target",
    "options", "plan", "reasons", "summary", "parameters", "values", "intervals",
    "constraints", "evaluations", "conditions", "inspection",
})
"""Columns that hold JSON, in whichever table."""


@dataclass(frozen=True)
class CampaignRow:
    """``state``: queued, running, paused, done, failed or cancelled."""

    name: str
    spec: dict[str, Any]
    state: str
    baseline: dict[str, Any] | None
    created_s: float
    started_s: float | None
    ended_s: float | None
    reason: str | None
    priority: int


@dataclass(frozen=True)
class DeviceRow:
    """``state``: active, draining, quarantined or removed; ``strikes`` counts leases that it lost
    or failed in a row, ``reason`` says why it was quarantined."""

    name: str
    profile: str | None
    fingerprint: dict[str, Any]
    capabilities: dict[str, Any]
    shares_host: int
    state: str
    created_s: float
    last_seen_s: float | None
    strikes: int
    reason: str | None


@dataclass(frozen=True)
class TokenRow:
    """The standing secret of a person or program; ``role`` is operator or viewer."""

    id: str
    name: str
    role: str
    created_s: float
    expires_s: float | None
    revoked_s: float | None


@dataclass(frozen=True)
class AgentRow:
    """Who holds a secret. ``pool`` is ``builder`` or ``device:<name>``."""

    id: str
    name: str
    role: str
    pool: str
    device: str | None
    created_s: float
    first_used_s: float | None
    revoked_s: float | None


@dataclass(frozen=True)
class JobRow:
    """``state``: queued, leased, done, failed or cancelled."""

    id: int
    key: str
    kind: str
    pool: str
    campaign: str | None
    payload: dict[str, Any]
    priority: int
    state: str
    cancel_requested: int
    attempt: int
    strikes: int
    fence: int | None
    holder: str | None
    leased_s: float | None
    heartbeat_s: float | None
    lease_expires_s: float | None
    deadline_at_s: float | None
    progress: float | None
    result: dict[str, Any] | None
    result_sha256: str | None
    reason: str | None
    message: str | None
    created_s: float
    started_s: float | None
    finished_s: float | None
    finished_seq: int | None
    queue_until_s: float | None


@dataclass(frozen=True)
class BuildRow:
    key: str
    task: str
    recipe: str
    seed: int
    fidelity: str
    sha256: str
    file_bytes: int
    graph_key: str
    report: dict[str, Any]
    job: int
    created_s: float


@dataclass(frozen=True)
class ArtifactRow:
    """``origin``: build or upload. ``inspection`` is what a builder found in an uploaded model;
    ``dropped_s`` is set while its file is gone from the disk (it can be built again)."""

    sha256: str
    file_bytes: int
    build_key: str | None
    target: dict[str, Any] | None
    number_format: str
    created_s: float
    origin: str
    inspection: dict[str, Any] | None
    dropped_s: float | None


@dataclass(frozen=True)
class EvaluationRow:
    """``correct``: one bit per sample, packed as ``numpy.packbits`` does."""

    id: int
    sha256: str
    split: str
    place: str
    metric: str
    value: float
    n: int
    correct: bytes
    created_s: float


@dataclass(frozen=True)
class MeasurementRow:
    """``verdict``: valid, invalid or failed; figures are None unless it is valid.
    ``conditions``: temperatures, clocks and load before and after, and energy with its windows."""

    id: int
    sha256: str
    reference_sha256: str
    device: str
    runtime: str
    options: dict[str, Any]
    environment: str
    plan: dict[str, Any]
    attempt: int
    job: int
    verdict: str
    reasons: list[str]
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    quiet_level_s: float | None
    latency_s: float | None
    latency_low_s: float | None
    latency_high_s: float | None
    p90_s: float | None
    p99_s: float | None
    n: int | None
    quiet_share: float | None
    load_s: float | None
    first_s: float | None
    memory_bytes: int | None
    provider: str
    summary: dict[str, Any] | None
    conditions: dict[str, Any]
    created_s: float

    def warnings(self) -> list[str]:
        """Why it is not valid, or what there is to doubt although it is; reports print them."""
        return [*self.reasons, *(self.summary or {}).get("warnings", [])]


@dataclass(frozen=True)
class QuietLevelRow:
    device: str
    runtime: str
    environment: str
    reference_sha256: str
    options: dict[str, Any]
    level_s: float
    busy_streak: int
    busy_level_s: float | None
    updated_s: float


@dataclass(frozen=True)
class TrialRow:
    """``state``: running, complete, pruned or failed."""

    id: int
    campaign: str
    device: str
    number: int
    recipe: str
    options: dict[str, Any]
    parameters: dict[str, Any]
    state: str
    values: dict[str, float] | None
    intervals: dict[str, list[float]] | None
    constraints: dict[str, float] | None
    reason: str | None
    message: str | None
    sha256: str | None
    evaluations: list[int] | None
    measurement: int | None
    started_s: float
    finished_s: float | None


@dataclass(frozen=True)
class SpanRow:
    """``kind``: build, evaluate or measure; ``end_s`` is None while it lasts."""

    id: int
    campaign: str | None
    kind: str
    pool: str
    job: int
    start_s: float
    end_s: float | None


text: Callable[[Any], str] = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False).encode
"""Canonical JSON: sorted keys, no spaces, no NaN; equal documents give equal texts."""


def select(
    db: Database, kind: type[Row], table: str, rest: str, parameters: Iterable[Any] = ()
) -> list[Row]:
    """Rows of ``table t`` as ``kind``; ``rest`` is what follows FROM (WHERE, ORDER BY, LIMIT)."""
    names = [field.name for field in fields(cast(Any, kind))]
    columns = ", ".join(f't."{name}"' for name in names)
    return [kind(**{name: _decoded(name, value) for name, value in zip(names, row, strict=True)})
            for row in db.execute(f"SELECT {columns} FROM {table} t {rest}", list(parameters))]


def _decoded(name: str, value: Any) -> Any:
    return json.loads(value) if name in DOCUMENTS and value is not None else value


def first(
    db: Database, kind: type[Row], table: str, rest: str, parameters: Iterable[Any] = ()
) -> Row | None:
    found = select(db, kind, table, rest + " LIMIT 1", parameters)
    return found[0] if found else None
