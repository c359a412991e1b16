"""The messages between coordinator and agents: JSON over HTTP under ``/v1``.

    agent                                         coordinator
      | POST /v1/agents        Enrol         -> Enrolled            exchanges a one-time token
      | POST /v1/lease         LeaseRequest  -> Lease | 204         long poll
      | POST /v1/heartbeat     Heartbeat     -> HeartbeatAnswer     every ttl_s / 4; 409: stale
      | GET  /v1/artifacts/H                 -> bytes               range requests honoured
      | GET  /agent.pyz                      -> bytes               no secret; X-Agent-Sha256
      | PUT  /v1/results/JOB/ATTEMPT?fence=N    ResultEnvelope -> ResultAnswer   X-Content-Sha256

Every refusal is an ``ErrorAnswer``. Fields in ``_s`` are durations in seconds.

A field with a default may be absent. Unknown fields are ignored, so that version N can add fields
that version N - 1 does not know. Everything else raises ``ProtocolError``. Version 1 is the first;
added since, without a new number: ``Lease.transfer_s``, ``Heartbeat.phase``, ``X-Agent-Sha256``,
the plan from ``energy_s`` on, ``Measured.energy``, ``warnings``, ``session_blocks`` and ``nodes``,
``MeasureResult.device_s`` and ``reference_nodes``, ``MeasurePayload.profile``,
``LeaseRequest.kinds`` with the job kinds ``infer`` and ``prepare``, ``InferPayload.outputs``,
``InferResult.name``, ``kind`` and ``others``.
"""

from typing import List, NamedTuple, Optional

from agents.protocol.codec import CHOICES, JsonObject, ProtocolError
from agents.protocol.readings import EnergyMeasured, NodesMeasured, Rail

PROTOCOL_VERSION = 1
OUTPUT_LIMIT = 1024
"""Most values of the outputs of one call that a measurement carries."""
INFERRED_BYTES = 16 << 20
"""Most bytes of all outputs for a data set, unpacked."""
DEVICE_KINDS = ("measure", "infer", "prepare")
"""The job kinds of devices."""
NOT_PREPARED = "not_prepared"
"""Prefix of the reason for a file whose prepared form (such as an engine) is not on the device."""


class VersionMismatch(ProtocolError):
    """Coordinator and agent have incompatible protocol versions (HTTP 426)."""

    def __init__(self, message: str, server: int, client: int) -> None:
        super().__init__(message)
        self.server = server
        self.client = client


class Enrol(NamedTuple):
    protocol: int
    token: str
    name: str
    fingerprint: JsonObject
    capabilities: JsonObject


class Enrolled(NamedTuple):
    agent: str
    secret: str
    protocol: int


class LeaseRequest(NamedTuple):
    """A request for a job. ``kinds`` are the job kinds that the agent supports; an empty list
    comes from an older agent, which supports ``measure``."""

    protocol: int
    wait_s: float
    kinds: List[str] = []


class Lease(NamedTuple):
    """A leased job. ``fence`` increases with every lease of a job. The files must arrive within
    ``transfer_s``, after which ``deadline_s`` begins; without ``transfer_s`` it begins at once."""

    job: int
    kind: str
    attempt: int
    fence: int
    ttl_s: float
    deadline_s: float
    payload: JsonObject
    transfer_s: float = 0.0


class Heartbeat(NamedTuple):
    """``progress`` is the fraction of ``phase`` that is done, 0 to 1."""

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
    result: JsonObject


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

    The first warm-up lasts ``warmup_s``; if ``warmup_max_s`` is longer, until a steady state is
    detected, at most that long. ``cool_down_s`` is the longest wait until the device is below
    ``start_below_c`` (degrees Celsius; 0: no limit). ``cache_flush_bytes`` are written before each
    call, untimed. ``refuse_doubt``: a measurement with doubts is invalid. ``nodes``: single nodes
    are timed in a child process of their own.
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
    """The highest clocks of one power mode in kHz, of the fastest core and of the GPU. None: not
    limited, or unknown. ``id`` is the number in nvpmodel."""

    name: str
    id: Optional[int] = None
    cpu_khz: Optional[int] = None
    gpu_khz: Optional[int] = None


class ProfileFacts(NamedTuple):
    """The part of a device's profile that its agent needs; unknown values are empty.

    Rails are shell patterns of rail names without the unit. Rails in ``single_rails`` are never
    summed. The rails in ``total_rails`` together are the power of the device, with the extent that
    ``rails_cover`` describes. ``gpu_clock`` is a file below /sys, in Hz. ``ignored_zones`` are
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
"""The facts of a device without a profile."""


class MeasurePayload(NamedTuple):
    """The payload of a job of kind ``measure``. The coordinator adds ``profile`` when it leases the
    job."""

    reference: ArtifactRef
    candidates: List[ArtifactRef]
    runtime: str
    options: JsonObject
    plan: MeasurePlan
    quiet_level_s: Optional[float] = None
    input_seed: int = 0
    attempt: int = 1
    profile: Optional[ProfileFacts] = None


class Blocks(NamedTuple):
    """Block medians in seconds per call: of the candidate, and of the reference block before and
    after it. The three lists have equal length."""

    candidate_s: List[float]
    before_s: List[float]
    after_s: List[float]


class Measured(NamedTuple):
    """The measurement of one candidate.

    ``samples`` packs all samples in nanoseconds (``unpack_samples``), ``sample_blocks`` lists the
    number of samples of each block, ``session_blocks`` the number of blocks in each session. A
    failed candidate has no blocks. ``warnings`` are doubts, with which it can still be valid.
    """

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
    """The result of a job of kind ``measure``. ``quiet_level_s`` is the level that gated the
    blocks, None without reference blocks. ``device_s`` is the run time of the child processes."""

    quiet_level_s: Optional[float]
    reference_blocks: int
    quiet_share: float
    environment: JsonObject
    measurements: List[Measured]
    device_s: Optional[float] = None
    reference_nodes: Optional[NodesMeasured] = None


class InferPayload(NamedTuple):
    """The payload of a job of kind ``infer``: it computes the outputs of ``model`` for every sample
    of ``inputs``. This is a .npy file for a model with one input, else a .npz file with an array
    for each input, samples first. ``outputs`` names those to answer; an empty list: all."""

    model: ArtifactRef
    inputs: ArtifactRef
    runtime: str
    options: JsonObject
    attempt: int = 1
    outputs: List[str] = []


class InferredOutput(NamedTuple):
    """``outputs`` packs the values of one output for all samples (``unpack_bytes``), little-endian,
    in C order, of ``shape``, samples first. ``kind`` is numpy's name of their type: ``<f4`` for
    all floating point numbers, which are finite, ``<i8``, ``|b1``, ... for others."""

    name: str
    kind: str
    shape: List[int]
    outputs: str


class InferResult(NamedTuple):
    """The first of the outputs as in ``InferredOutput``, and the ``others``. Without a ``name`` it
    is the result of an older agent, which answered the first output as float32. Outputs without
    an axis of samples are left out."""

    shape: List[int]
    outputs: str
    provider: str
    environment: JsonObject
    device_s: Optional[float] = None
    name: str = ""
    kind: str = "<f4"
    others: List[InferredOutput] = []


class PreparePayload(NamedTuple):
    """The payload of a job of kind ``prepare``: it builds and stores on the device what the runtime
    needs to run ``model`` with these ``options``, such as a TensorRT engine."""

    model: ArtifactRef
    runtime: str
    options: JsonObject
    attempt: int = 1


class PrepareResult(NamedTuple):
    """``prepare_s`` is the time that it took; 0 if an earlier one was ``reused``."""

    prepare_s: float
    reused: bool
    kept_bytes: int
    environment: JsonObject


CHOICES.update({
    (Heartbeat, "phase"): ("", "transfer", "device"),
    (HeartbeatAnswer, "verdict"): ("continue", "cancel"),
    (ResultEnvelope, "state"): ("done", "failed"),
    (Measured, "verdict"): ("valid", "invalid", "failed"),
    (Rail, "role"): ("total", "addend", "part"),
})


def accepts(client: int, server: int = PROTOCOL_VERSION) -> bool:
    """Whether protocol version ``server`` serves ``client``: its own version or the one before."""
    return client >= 1 and server - 1 <= client <= server


def check_version(client: int, server: int = PROTOCOL_VERSION) -> None:
    """Raises VersionMismatch, whose text names both versions and the remedy."""
    if accepts(client, server):
        return
    remedy = ("update the agent: copy the coordinator's agent.pyz to the device"
            if client < server else "update the coordinator, or use the agent.pyz it ships")
    spoken = str(server) if server == 1 else "{} and {}".format(server, server - 1)
    raise VersionMismatch(
        "The coordinator speaks protocol {}, the agent speaks protocol {}: {}.".format(
            spoken, client, remedy), server, client)
