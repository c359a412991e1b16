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
``energy_s`` on, ``Measured.energy``, ``warnings``, ``session_blocks`` and ``nodes``,
``MeasureResult.device_s`` and ``reference_nodes``, ``MeasurePayload.profile``,
``LeaseRequest.kinds`` with the job kinds ``infer`` and ``prepare``.
"""

from typing import Any, Dict, List, NamedTuple, Optional

from agents.protocol.codec import CHOICES, ProtocolError
from agents.protocol.readings import EnergyMeasured, NodesMeasured, Rail

PROTOCOL_VERSION = 1
OUTPUT_LIMIT = 1024
"""A measurement carries at most so many values of the first output."""
INFERRED_BYTES = 16 << 20
"""A data set has at most so many bytes of outputs, unpacked."""
DEVICE_KINDS = ("measure", "infer", "prepare")
"""The kinds of jobs for devices."""
NOT_PREPARED = "not_prepared"
"""So begins the reason of a file that was to be prepared before it is run, and is not any more."""


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
    """``kinds`` are those that the program can do; none: it is older than they are, and can
    ``measure``."""

    protocol: int
    wait_s: float
    kinds: List[str] = []


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
    ``refuse_doubt``: a measurement with doubts is invalid. ``nodes``: single nodes are timed in a
    child of their own.
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
    nodes: bool = False


class PowerMode(NamedTuple):
    """The highest clocks of one power mode in kHz, of the fastest core and of the GPU; None: not
    capped, or not known. ``id`` is nvpmodel's."""

    name: str
    id: Optional[int] = None
    cpu_khz: Optional[int] = None
    gpu_khz: Optional[int] = None


class ProfileFacts(NamedTuple):
    """What an agent needs of its device's profile; what is not known is empty.

    Rails are shell patterns of their names without the unit. What ``single_rails`` names is never
    added; of the rest, those that ``total_rails`` name are together what the device draws, as far
    as ``rails_cover`` says. ``gpu_clock`` is a file below /sys, in Hz. ``ignored_zones`` are
    thermal zones that measure nothing.
    """

    name: str
    total_rails: List[str] = []
    single_rails: List[str] = []
    rails_cover: str = ""
    ignored_zones: List[str] = []
    gpu_clock: str = ""
    power_modes: List[PowerMode] = []


UNKNOWN = ProfileFacts("")
"""Of a device without a profile."""


class MeasurePayload(NamedTuple):
    """What a job of kind ``measure`` asks for. The coordinator adds ``profile`` when it leases."""

    reference: ArtifactRef
    candidates: List[ArtifactRef]
    runtime: str
    options: Dict[str, Any]
    plan: MeasurePlan
    quiet_level_s: Optional[float] = None
    input_seed: int = 0
    attempt: int = 1
    profile: Optional[ProfileFacts] = None


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
    nodes: Optional[NodesMeasured] = None


class MeasureResult(NamedTuple):
    """``quiet_level_s`` gated the blocks; None when no reference block was timed. ``device_s``: how
    long the children ran."""

    quiet_level_s: Optional[float]
    reference_blocks: int
    quiet_share: float
    environment: Dict[str, Any]
    measurements: List[Measured]
    device_s: Optional[float] = None
    reference_nodes: Optional[NodesMeasured] = None


class InferPayload(NamedTuple):
    """What a job of kind ``infer`` asks for: the outputs of ``model`` for every sample of
    ``inputs``, a .npy file of float32, the samples first."""

    model: ArtifactRef
    inputs: ArtifactRef
    runtime: str
    options: Dict[str, Any]
    attempt: int = 1


class InferResult(NamedTuple):
    """``outputs`` packs the first output (``unpack_bytes``): float32, little-endian, in C order,
    of ``shape``, the samples first. All are finite."""

    shape: List[int]
    outputs: str
    provider: str
    environment: Dict[str, Any]
    device_s: Optional[float] = None


class PreparePayload(NamedTuple):
    """What a job of kind ``prepare`` asks for: what the runtime needs of ``model`` before it can
    run it with these ``options`` (a TensorRT engine), kept on the device."""

    model: ArtifactRef
    runtime: str
    options: Dict[str, Any]
    attempt: int = 1


class PrepareResult(NamedTuple):
    """``prepare_s`` is how long it took; 0 with ``reused``, when it was there already."""

    prepare_s: float
    reused: bool
    kept_bytes: int
    environment: Dict[str, Any]


CHOICES.update({
    (Heartbeat, "phase"): ("", "transfer", "device"),
    (HeartbeatAnswer, "verdict"): ("continue", "cancel"),
    (ResultEnvelope, "state"): ("done", "failed"),
    (Measured, "verdict"): ("valid", "invalid", "failed"),
    (Rail, "role"): ("total", "addend", "part"),
})


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
