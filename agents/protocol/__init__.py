"""What coordinator and agents share: messages, their JSON form, and the registry of runtimes.

The only package of ``agents`` that the searcher may import. Its modules are private: import from
``agents.protocol``.
"""

from agents.protocol.codec import (
    CHOICES,
    JsonObject,
    ProtocolError,
    as_json,
    canonical_json,
    content_sha256,
    decode,
    encode,
    parse_json,
)
from agents.protocol.messages import (
    DEVICE_KINDS,
    INFERRED_BYTES,
    NOT_PREPARED,
    OUTPUT_LIMIT,
    PROTOCOL_VERSION,
    UNKNOWN,
    ArtifactRef,
    Blocks,
    Enrol,
    Enrolled,
    ErrorAnswer,
    Failure,
    Heartbeat,
    HeartbeatAnswer,
    InferPayload,
    InferredOutput,
    InferResult,
    Lease,
    LeaseRequest,
    Measured,
    MeasurePayload,
    MeasurePlan,
    MeasureResult,
    PowerMode,
    PreparePayload,
    PrepareResult,
    ProfileFacts,
    ResultAnswer,
    ResultEnvelope,
    VersionMismatch,
    accepts,
    check_version,
)
from agents.protocol.packing import (
    pack_bytes,
    pack_samples,
    pack_values,
    unpack_bytes,
    unpack_samples,
    unpack_values,
)
from agents.protocol.readings import (
    Copy,
    EnergyMeasured,
    NodesMeasured,
    NodeTime,
    Rail,
    RailTrace,
)
from agents.protocol.runtimes import (
    DEFAULT_RUNTIME,
    GRAPH_LEVELS,
    ONNX_PROOF,
    RUNTIMES,
    RuntimeRegistry,
    RuntimeTraits,
    draws_of,
)

__all__ = [
    "ArtifactRef", "Blocks", "CHOICES", "Copy", "DEFAULT_RUNTIME", "DEVICE_KINDS", "EnergyMeasured",
    "Enrol", "Enrolled", "ErrorAnswer", "Failure", "GRAPH_LEVELS", "Heartbeat", "HeartbeatAnswer",
    "INFERRED_BYTES", "InferPayload", "InferResult", "InferredOutput", "JsonObject", "Lease",
    "LeaseRequest", "MeasurePayload", "MeasurePlan", "MeasureResult", "Measured", "NOT_PREPARED",
    "NodeTime", "NodesMeasured", "ONNX_PROOF", "OUTPUT_LIMIT", "PROTOCOL_VERSION", "PowerMode",
    "PreparePayload", "PrepareResult", "ProfileFacts", "ProtocolError", "RUNTIMES", "Rail",
    "RailTrace", "ResultAnswer", "ResultEnvelope", "RuntimeRegistry", "RuntimeTraits", "UNKNOWN",
    "VersionMismatch", "accepts", "as_json", "canonical_json", "check_version", "content_sha256",
    "decode", "draws_of", "encode", "pack_bytes", "pack_samples", "pack_values", "parse_json",
    "unpack_bytes", "unpack_samples", "unpack_values",
]
