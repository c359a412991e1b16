"""The result of a ``measure`` job, as it is stored in the ledger and returned by the API.

It does not import numpy, because the coordinator parses results too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from pydantic import PlainSerializer, PlainValidator

from agents.protocol import EnergyMeasured, NodesMeasured, as_json, decode
from searcher.documents import plain

Message = TypeVar("Message", EnergyMeasured, NodesMeasured)


def _energy(document: object) -> EnergyMeasured | None:
    return _message(EnergyMeasured, document)


def _nodes(document: object) -> NodesMeasured | None:
    return _message(NodesMeasured, document)


def _message(kind: type[Message], document: object) -> Message | None:
    if document is None or isinstance(document, kind):
        return document
    if not isinstance(document, Mapping):
        raise ValueError(f"{kind.__name__} must be an object")
    found: Message = decode(kind, dict(document))
    return found


def without_rails(energy: EnergyMeasured | None) -> dict[str, object] | None:
    """The energy without raw meter readings, which have a table of their own."""
    if energy is None:
        return None
    document: dict[str, object] = as_json(energy._replace(rails=[]))
    del document["rails"]
    return document


Energy = Annotated[EnergyMeasured | None, PlainValidator(_energy),
                   PlainSerializer(without_rails)]
Nodes = Annotated[NodesMeasured | None, PlainValidator(_nodes),
                  PlainSerializer(lambda nodes: None if nodes is None else as_json(nodes))]


@dataclass(frozen=True)
class Quantile:
    """A quantile with its distribution-free interval; None where n is too small."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Ratio:
    """Latency divided by the latency of the reference, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        return (self.high - self.low) / self.value


@dataclass(frozen=True)
class Summary:
    """Figures of one valid measurement.

    ``ratio`` is candidate divided by reference in quiet blocks. Seconds are those of one call.
    ``n`` is the number of quiet blocks, ``calls`` the number of calls in them, from which the
    quantiles are computed. ``session_blocks`` has the number of all blocks of each session,
    ``session_ratios`` the median ratio of each session that has quiet blocks.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    quiet_level_s: float
    latency_s: float
    latency_low_s: float
    latency_high_s: float
    p50_s: Quantile
    p90_s: Quantile
    p99_s: Quantile
    ungated_p50_s: float
    n: int
    calls: int
    quiet_share: float
    session_blocks: tuple[int, ...] = ()
    session_ratios: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    energy: Energy = None
    nodes: Nodes = None

    def as_document(self) -> dict[str, object]:
        """The JSON document, without energy and nodes if they were not measured."""
        document = plain(self)
        for name in ("energy", "nodes"):
            if document[name] is None:
                del document[name]
        return document


@dataclass(frozen=True)
class FileMeasurement:
    """The result of a job for one file. ``verdict`` is valid, invalid or failed; a valid one has
    figures. ``rough_ratio`` is the estimate from a machine that was never quiet."""

    sha256: str = ""
    verdict: str = "failed"
    reasons: tuple[str, ...] = ()
    measurement: int | None = None
    provider: str = ""
    load_s: float | None = None
    first_s: float | None = None
    memory_bytes: int | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    quiet_level_s: float | None = None
    n: int | None = None
    rough_ratio: float | None = None
    summary: Summary | None = None

    @property
    def latency_ratio(self) -> Ratio | None:
        """The ratio with its interval; None without a measurement."""
        if self.ratio is None or self.ratio_low is None or self.ratio_high is None:
            return None
        return Ratio(self.ratio, self.ratio_low, self.ratio_high)


@dataclass(frozen=True)
class MeasureResult:
    """The result of a job. ``quiet_level_s`` is the known level of the device, ``own_level_s`` that
    of the reference in this job, ``device_s`` the seconds for which the device worked."""

    measurements: tuple[FileMeasurement, ...] = ()
    environment: Mapping[str, object] = field(default_factory=dict)
    quiet_level_s: float | None = None
    own_level_s: float | None = None
    quiet_share: float | None = None
    device_s: float | None = None
    reference_nodes: Nodes = None
