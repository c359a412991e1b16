"""Rows of the ledger: one frozen dataclass per table, with JSON columns decoded."""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

from sqlite_utils import Database

from searcher.documents import parse

Row = TypeVar("Row")


DOCUMENTS = frozenset({
    "spec", "fingerprint", "capabilities", "payload", "result", "report", "target",
    "options", "plan", "reasons", "summary", "parameters", "values", "intervals",
    "constraints", "evaluations", "conditions", "inspection", "names",
})
"""Names of the columns that hold JSON, in all tables."""


@dataclass(frozen=True)
class CampaignRow:
    """``state``: queued, running, paused, done, failed or cancelled."""

    name: str
    spec: Mapping[str, object]
    state: str
    created_s: float
    started_s: float | None
    ended_s: float | None
    reason: str | None
    priority: int


@dataclass(frozen=True)
class DeviceRow:
    """``state``: active, draining, quarantined or removed. ``strikes`` counts consecutive lost or
    failed leases; ``reason`` says why the device is quarantined."""

    name: str
    profile: str | None
    fingerprint: Mapping[str, object]
    capabilities: Mapping[str, object]
    shares_host: int
    state: str
    created_s: float
    last_seen_s: float | None
    strikes: int
    reason: str | None


@dataclass(frozen=True)
class TokenRow:
    """The long-lived token of a person or program; ``role`` is operator or viewer."""

    id: str
    name: str
    role: str
    created_s: float
    expires_s: float | None
    revoked_s: float | None


@dataclass(frozen=True)
class AgentRow:
    """An agent or builder with a secret. ``pool`` is ``builder`` or ``device:<name>``."""

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
    report: Mapping[str, object]
    job: int
    created_s: float


@dataclass(frozen=True)
class ArtifactRow:
    """``origin``: build or upload. ``inspection``: what a builder found in an uploaded model.
    ``dropped_s`` is set while the file is not on the disk and can be built again."""

    sha256: str
    file_bytes: int
    build_key: str | None
    target: Mapping[str, object] | None
    number_format: str
    created_s: float
    origin: str
    inspection: Mapping[str, object] | None
    dropped_s: float | None


@dataclass(frozen=True)
class EvaluationRow:
    """The metric of a file on a split of a task.

    ``low`` and ``high`` are the 95 % interval of ``value``. ``scores`` are packed as ``encoding``
    says (``statistics.score_codec``); None where they were too large.
    """

    id: int
    sha256: str
    task: str
    split: str
    place: str
    metric: str
    value: float
    n: int
    low: float | None
    high: float | None
    scores: bytes | None
    encoding: str | None
    created_s: float


@dataclass(frozen=True)
class LabelsRow:
    """The class or group (``kind``) of each of ``n`` samples: ``codes`` are indices of ``names``,
    packed as ``encoding`` says."""

    hash: str
    kind: str
    names: Sequence[str]
    n: int
    codes: bytes
    encoding: str


@dataclass(frozen=True)
class MeasurementRow:
    """``verdict``: valid, invalid or failed; figures are None unless it is valid.
    ``conditions``: temperatures, clocks and load before and after; energy with its windows."""

    id: int
    sha256: str
    reference_sha256: str
    device: str
    runtime: str
    options: Mapping[str, object]
    environment: str
    plan: Mapping[str, object]
    attempt: int
    job: int
    verdict: str
    reasons: Sequence[str] = ()
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    quiet_level_s: float | None = None
    latency_s: float | None = None
    latency_low_s: float | None = None
    latency_high_s: float | None = None
    p90_s: float | None = None
    p99_s: float | None = None
    n: int | None = None
    quiet_share: float | None = None
    load_s: float | None = None
    first_s: float | None = None
    memory_bytes: int | None = None
    provider: str = ""
    summary: Mapping[str, object] | None = None
    conditions: Mapping[str, object] = field(default_factory=dict)
    created_s: float = 0.0

    def warnings(self) -> list[str]:
        """Reasons why the measurement is not valid, and warnings; reports print both."""
        found = (self.summary or {}).get("warnings", ())
        return [*self.reasons, *(found if isinstance(found, list) else ())]


@dataclass(frozen=True)
class QuietLevelRow:
    device: str
    runtime: str
    environment: str
    reference_sha256: str
    options: Mapping[str, object]
    level_s: float
    busy_streak: int
    busy_level_s: float | None
    updated_s: float


@dataclass(frozen=True)
class TrialParameters:
    """The parameters of a trial, from which the study is rebuilt: values by the study's names, and
    the JSON of each distribution."""

    values: Mapping[str, bool | int | float] = field(default_factory=dict)
    distributions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialRow:
    """``state``: running, complete, pruned or failed."""

    id: int
    campaign: str
    device: str
    number: int
    recipe: str
    options: Mapping[str, object]
    parameters: TrialParameters
    state: str
    values: Mapping[str, int | float] | None
    intervals: Mapping[str, Sequence[float]] | None
    constraints: Mapping[str, float] | None
    reason: str | None
    message: str | None
    sha256: str | None
    evaluations: Sequence[int] | None
    measurement: int | None
    started_s: float
    finished_s: float | None


@dataclass(frozen=True)
class SpanRow:
    """``kind``: build, evaluate or measure; ``end_s`` is None until the span ends."""

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
    """Rows of ``table t`` as ``kind``. ``rest`` follows FROM (WHERE, ORDER BY, LIMIT)."""
    columns, parsers = _columns(cast(Any, kind))
    rows = []
    for stored in db.execute(f"SELECT {columns} FROM {table} t {rest}", list(parameters)):
        values = list(stored)
        for place, read in parsers:
            if values[place] is not None:
                values[place] = read(values[place])
        rows.append(kind(*values))
    return rows


@functools.cache
def _columns(kind: Any) -> tuple[str, Sequence[tuple[int, Callable[[str], Any]]]]:
    """The columns of a row as SQL; the place and the parser of each JSON column."""
    kinds = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    return (", ".join(f't."{name}"' for name in names),
            [(place, _parser(kinds[name])) for place, name in enumerate(names)
             if name in DOCUMENTS])


def _parser(kind: Any) -> Callable[[str], Any]:
    if is_dataclass(kind):
        return lambda document: parse(cast(type, kind), json.loads(document))
    return json.loads


def first(
    db: Database, kind: type[Row], table: str, rest: str, parameters: Iterable[Any] = ()
) -> Row | None:
    found = select(db, kind, table, rest + " LIMIT 1", parameters)
    return found[0] if found else None
