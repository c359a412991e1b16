"""The wire between coordinator and agents: JSON over HTTP, messages under ``/v1``.

    agent                                         coordinator
      | POST /v1/agents        Enrol         -> Enrolled            one-time token for a secret
      | POST /v1/lease         LeaseRequest  -> Lease | 204         long poll
      | POST /v1/heartbeat     Heartbeat     -> HeartbeatAnswer     every ttl_s / 4; 409: stale
      | GET  /v1/artifacts/H                 -> bytes               range requests honoured
      | GET  /agent.pyz                      -> bytes               no secret; X-Agent-Sha256
      | PUT  /v1/results/JOB/ATTEMPT?fence=N    ResultEnvelope -> ResultAnswer   X-Content-Sha256

Every refusal is ``ErrorAnswer``. Seconds end in ``_s``; durations, never points in time.

A field with a default may be absent. Unknown fields are ignored, so that version N may add a
field that N - 1 does not know. All else raises ``ProtocolError``. History: 1, the first; later,
without a new number, ``Lease.transfer_s``, ``Heartbeat.phase``, ``X-Agent-Sha256``, the plan from
``energy_s`` on, ``Measured.energy``, ``warnings`` and ``session_blocks``,
``MeasureResult.device_s``.
"""

import base64
import binascii
import hashlib
import json
import math
import sys
import zlib
from array import array
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_type_hints,
)

PROTOCOL_VERSION = 1
OUTPUT_LIMIT = 1024
"""A measurement carries at most so many values of the first output."""

T = TypeVar("T")


class ProtocolError(ValueError):
    """A message that cannot be accepted; the text names the field and the value."""


class VersionMismatch(ProtocolError):
    """The two sides speak versions that do not meet (HTTP 426)."""

    def __init__(self, message: str, server: int, client: int) -> None:
        super().__init__(message)
        self.server = server
        self.client = client


class Enrol(NamedTuple):
    protocol: int
    token: str
    name: str
    fingerprint: Dict[str, Any]
    capabilities: Dict[str, Any]


class Enrolled(NamedTuple):
    agent: str
    secret: str
    protocol: int


class LeaseRequest(NamedTuple):
    protocol: int
    wait_s: float


class Lease(NamedTuple):
    """``fence`` increases strictly per job. The files have ``transfer_s`` to arrive and
    ``deadline_s`` counts from there; without ``transfer_s`` it counts from leasing."""

    job: int
    kind: str
    attempt: int
    fence: int
    ttl_s: float
    deadline_s: float
    payload: Dict[str, Any]
    transfer_s: float = 0.0


class Heartbeat(NamedTuple):
    """``progress`` is the share of ``phase`` that is done, 0 to 1."""

    job: int
    fence: int
    progress: float = 0.0
    phase: str = ""


class HeartbeatAnswer(NamedTuple):
    """``verdict`` is ``continue`` or ``cancel``."""

    verdict: str


class ResultEnvelope(NamedTuple):
    """``state`` is ``done`` or ``failed``; a failed job's ``result`` is a ``Failure``."""

    state: str
    result: Dict[str, Any]


class Failure(NamedTuple):
    """``reason`` is one short stable word."""

    reason: str
    message: str


class ResultAnswer(NamedTuple):
    accepted: bool


class ErrorAnswer(NamedTuple):
    """``server`` and ``client`` are protocol versions, with 426 only."""

    error: str
    server: Optional[int] = None
    client: Optional[int] = None


class ArtifactRef(NamedTuple):
    sha256: str
    size_bytes: int


class MeasurePlan(NamedTuple):
    """Seconds are device time per candidate, over all ``processes`` together.

    The first warm-up lasts ``warmup_s``, and where ``warmup_max_s`` is more, until a steady state
    is detected, so long at most. ``cool_down_s`` is the longest wait for ``start_below_c`` (degrees
    Celsius; 0: no limit). ``cache_flush_bytes`` are written before each call, untimed.
    ``refuse_doubt``: a measurement with doubts is invalid.
    """

    name: str
    block_s: float
    min_blocks: int
    min_s: float
    max_s: float
    gate: float
    fresh_session_every_s: float
    warmup_s: float
    memory: bool = False
    processes: int = 1
    energy_s: float = 0.0
    idle_s: float = 0.0
    warmup_max_s: float = 0.0
    start_below_c: float = 0.0
    cool_down_s: float = 0.0
    cache_flush_bytes: int = 0
    refuse_doubt: bool = False


class MeasurePayload(NamedTuple):
    """What a job of kind ``measure`` asks for."""

    reference: ArtifactRef
    candidates: List[ArtifactRef]
    runtime: str
    options: Dict[str, Any]
    plan: MeasurePlan
    quiet_level_s: Optional[float] = None
    input_seed: int = 0
    attempt: int = 1


class Rail(NamedTuple):
    """What a meter says of one power or energy that may be integrated; it never changes.

    ``name`` ends in ``unit``: a power (W, mW, uW) or a counter of energy (J, mJ, uJ). ``covers``
    is what draws it: board, cpu, gpu, memory or other. ``role``: ``total`` is used alone; where no
    rail covers the board, an ``addend`` is added to the others; a ``part`` is inside another rail,
    or nobody documents that it is not, and is never added. ``update_s`` is the period that the
    meter claims, None where it claims none; ``wraps_at`` the range of a counter that wraps.
    """

    name: str
    unit: str
    source: str
    covers: str
    role: str
    averaging: str
    update_s: Optional[float] = None
    wraps_at: Optional[float] = None


class RailTrace(NamedTuple):
    """Every poll of one rail: ``times`` packs nanoseconds since the first poll of the job
    (``unpack_samples``), ``values`` its figures in its unit (``unpack_values``)."""

    meter: str
    rail: Rail
    times: str
    values: str


class EnergyMeasured(NamedTuple):
    """A window in which the candidate ran alone. Energies are joules per call, powers watts;
    ``_error_`` is a half width. ``problem`` is why there are no figures, ``idle_problem`` why there
    is no net energy. ``covers`` names the rails that were used; the windows are seconds since the
    first poll, [start, end] each, empty where there was none."""

    problem: str
    covers: str = ""
    calls: int = 0
    load: List[float] = []
    idle_before: List[float] = []
    idle_after: List[float] = []
    updates: int = 0
    update_s: Optional[float] = None
    power_w: Optional[float] = None
    power_error_w: Optional[float] = None
    gross_j: Optional[float] = None
    gross_error_j: Optional[float] = None
    net_j: Optional[float] = None
    net_error_j: Optional[float] = None
    idle_before_w: Optional[float] = None
    idle_after_w: Optional[float] = None
    edge_j: Optional[float] = None
    quantisation_j: Optional[float] = None
    sampling_j: Optional[float] = None
    idle_drift_j: Optional[float] = None
    idle_problem: str = ""
    rails: List[RailTrace] = []


class Blocks(NamedTuple):
    """Medians of the blocks in seconds per call; the three lists are equally long."""

    candidate_s: List[float]
    before_s: List[float]
    after_s: List[float]


class Measured(NamedTuple):
    """One candidate. ``samples`` packs every call (``unpack_samples``, ns), ``sample_blocks`` says
    how many calls each block of ``blocks`` has, ``session_blocks`` how many blocks were timed
    between two openings. A failed candidate has no blocks. ``warnings`` are doubts that leave it
    valid."""

    sha256: str
    verdict: str
    reasons: List[str]
    load_s: Optional[float]
    first_s: Optional[float]
    blocks: Blocks
    samples: str
    sample_blocks: List[int]
    outputs: List[float]
    provider: str
    memory_bytes: Optional[int] = None
    memory_baseline_bytes: Optional[int] = None
    energy: Optional[EnergyMeasured] = None
    warnings: List[str] = []
    session_blocks: List[int] = []


class MeasureResult(NamedTuple):
    """``quiet_level_s`` gated the blocks; None when no reference block was timed. ``device_s``: how
    long the children ran."""

    quiet_level_s: Optional[float]
    reference_blocks: int
    quiet_share: float
    environment: Dict[str, Any]
    measurements: List[Measured]
    device_s: Optional[float] = None


CHOICES: Dict[Tuple[type, str], Tuple[str, ...]] = {
    (Heartbeat, "phase"): ("", "transfer", "device"),
    (HeartbeatAnswer, "verdict"): ("continue", "cancel"),
    (ResultEnvelope, "state"): ("done", "failed"),
    (Measured, "verdict"): ("valid", "invalid", "failed"),
    (Rail, "role"): ("total", "addend", "part"),
}


def accepts(client: int, server: int = PROTOCOL_VERSION) -> bool:
    """Whether ``server`` serves ``client``: its own version and the one before."""
    return client >= 1 and server - 1 <= client <= server


def check_version(client: int, server: int = PROTOCOL_VERSION) -> None:
    """Raises VersionMismatch, whose text names both versions and the mend."""
    if accepts(client, server):
        return
    mend = ("update the agent: copy the coordinator's agent.pyz to the device"
            if client < server else "update the coordinator, or use the agent.pyz it ships")
    spoken = str(server) if server == 1 else "{} and {}".format(server, server - 1)
    raise VersionMismatch(
        "The coordinator speaks protocol {}, the agent speaks protocol {}: {}.".format(
            spoken, client, mend), server, client)


def encode(message: Any) -> bytes:
    """Canonical JSON of one of the messages above. Raises ProtocolError on NaN and infinity."""
    return canonical_json(as_json(message))


def as_json(value: Any) -> Any:
    """Messages as dicts, nested ones too; everything else unchanged."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: as_json(getattr(value, name)) for name in value._fields}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return value


def decode(cls: Type[T], content: Union[bytes, str, Dict[str, Any]]) -> T:
    """A message of type ``cls`` out of JSON text or an already parsed object.

    Raises ProtocolError, and nothing else, whatever ``content`` is.
    """
    value: Any = content
    if isinstance(content, (bytes, bytearray, str)):
        value = parse_json(content)
    try:
        message: T = _message(cls, value, cls.__name__)
    except RecursionError:
        raise ProtocolError("{}: the message is nested too deeply.".format(cls.__name__)) from None
    return message


def parse_json(content: Union[bytes, bytearray, str]) -> Any:
    """JSON as the RFC has it: no NaN, no infinity. Raises ProtocolError."""
    try:
        text = content if isinstance(content, str) else bytes(content).decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ProtocolError("The message is nested too deeply to be read.") from None
    except ValueError as error:
        raise ProtocolError("The message is not JSON ({}): {}".format(
            error, _short(content))) from None


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, ASCII: equal values give equal bytes. Raises ProtocolError."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError("Cannot be written as JSON ({}): {}".format(
            error, _short(value))) from None


def content_sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pack_samples(samples_ns: Iterable[int]) -> str:
    """``base64(zlib(little-endian uint32))``; ``Q:`` and uint64 when a call took over 4.29 s."""
    values = list(samples_ns)
    wide = max(values, default=0) >= 2**32
    packed = array("Q" if wide else "I", values)
    if sys.byteorder == "big":
        packed.byteswap()
    text = base64.b64encode(zlib.compress(packed.tobytes(), 6)).decode("ascii")
    return "Q:" + text if wide else text


def unpack_samples(text: str) -> List[int]:
    """The nanoseconds that ``pack_samples`` packed; ``""`` is none. Raises ProtocolError."""
    if not text:
        return []
    wide = text.startswith("Q:")
    packed = array("Q" if wide else "I")
    try:
        packed.frombytes(zlib.decompress(base64.b64decode(text[2:] if wide else text,
                                                          validate=True)))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ProtocolError("Samples cannot be unpacked ({}): {}".format(
            error, _short(text))) from None
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


def pack_values(values: Iterable[float]) -> str:
    """``base64(zlib(little-endian float64))``; NaN stays NaN."""
    packed = array("d", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(zlib.compress(packed.tobytes(), 6)).decode("ascii")


def unpack_values(text: str) -> List[float]:
    """What ``pack_values`` packed; ``""`` is none. Raises ProtocolError."""
    packed = array("d")
    try:
        packed.frombytes(zlib.decompress(base64.b64decode(text, validate=True)) if text else b"")
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ProtocolError("Values cannot be unpacked ({}): {}".format(
            error, _short(text))) from None
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


def _message(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ProtocolError("{}: expected an object, got {}".format(where, _short(value)))
    found = {}
    for name, kind, optional, allowed in _fields(cls):
        if name not in value:
            if not optional:
                raise ProtocolError("{}.{} is missing; the message has the fields {}".format(
                    where, name, _short(sorted(map(str, value)))))
            continue
        given = value[name]
        # Most values are of the very type; for them this is all.
        plain = type(given) is kind and kind in _PLAIN
        found[name] = given if plain else _checked(kind, given, where, name)
        if allowed and found[name] not in allowed:
            raise ProtocolError("{}.{} must be one of {}, got {}".format(
                where, name, ", ".join(allowed), _short(value[name])))
    return cls(**found)


_PLAIN = frozenset((str, bool, int))
_FIELDS: Dict[Any, List[Tuple[str, Any, bool, Tuple[str, ...]]]] = {}


def _fields(cls: Any) -> List[Tuple[str, Any, bool, Tuple[str, ...]]]:
    """Name, type, whether it may be absent, and allowed values; type hints are slow to read."""
    if cls not in _FIELDS:
        defaults = getattr(cls, "_field_defaults", {})
        _FIELDS[cls] = [(name, kind, name in defaults, CHOICES.get((cls, name), ()))
                        for name, kind in get_type_hints(cls).items()]
    return _FIELDS[cls]


def _checked(kind: Any, value: Any, parent: str, name: str) -> Any:
    """``value`` as ``kind``; an integer passes where a float is asked for, and becomes one."""
    where = parent + "." + name
    origin = getattr(kind, "__origin__", None)
    if origin is Union:
        inner = [option for option in kind.__args__ if option is not type(None)]
        return None if value is None else _checked(inner[0], value, parent, name)
    if origin in (list, List):
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        if _all_of(kind.__args__[0], value):
            return value
        return [_checked(kind.__args__[0], item, parent, "{}[{}]".format(name, position))
                for position, item in enumerate(value)]
    if origin in (dict, Dict):
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise _wrong(where, "an object", value)
        return value
    if kind in _SCALARS:
        return _SCALARS[kind](value, where)
    return _message(kind, value, where)


def _all_of(kind: Any, values: List[Any]) -> bool:
    """Whether nothing is left to convert or refuse; the usual case of thousands of samples."""
    if kind not in (float, int, str) or not {kind}.issuperset(map(type, values)):
        return False
    return kind is not float or all(map(math.isfinite, values))


def _integer(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(where, "an integer", value)
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(where, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        raise _wrong(where, "a finite number", value) from None
    if not math.isfinite(number):
        raise _wrong(where, "a finite number", value)
    return number


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "a string", value)
    return value


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(where, "true or false", value)
    return value


_SCALARS: Dict[Any, Callable[[Any, str], Any]] = {
    int: _integer, float: _number, str: _text, bool: _truth}


def _wrong(where: str, expected: str, value: Any) -> ProtocolError:
    return ProtocolError("{} must be {}, got {}".format(where, expected, _short(value)))


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        text = "a {} that cannot be shown".format(type(value).__name__)
    return text if len(text) <= 80 else text[:77] + "..."


def _refuse_constant(name: str) -> Any:
    raise ValueError("{} is not a JSON number".format(name))
