"""The result of a ``measure`` job, as the ledger keeps it and the API answers it.

Free of numpy: a coordinator parses it too.
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
    """Raw rails have a table of their own."""
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
    """A quantile with its distribution-free interval; None where n does not carry it."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Ratio:
    """Latency over that of the reference, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def relative_width(self) -> float:
        return (self.high - self.low) / self.value


@dataclass(frozen=True)
class Summary:
    """Figures of one valid measurement. ``ratio`` is candidate over reference in quiet blocks;
    seconds are one call at the trial's batch; ``n`` counts quiet blocks, ``calls`` the calls inside
    them, which the quantiles are of; ``session_blocks`` counts all blocks between two openings,
    ``session_ratios`` has the median of each opening that has quiet ones."""

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
        """Plain JSON, without an energy and nodes that were not measured."""
        document = plain(self)
        for name in ("energy", "nodes"):
            if document[name] is None:
                del document[name]
        return document


@dataclass(frozen=True)
class FileMeasurement:
    """What a job says of one file. ``verdict`` is valid, invalid or failed; figures are there when
    it is valid. ``rough_ratio`` is what a machine that was never quiet showed."""

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
        """None unless it was measured."""
        if self.ratio is None or self.ratio_low is None or self.ratio_high is None:
            return None
        return Ratio(self.ratio, self.ratio_low, self.ratio_high)


@dataclass(frozen=True)
class MeasureResult:
    """``quiet_level_s`` is the level that the device is known by, ``own_level_s`` that of the
    reference in this job; ``device_s`` is how long the device worked."""

    measurements: tuple[FileMeasurement, ...] = ()
    environment: Mapping[str, object] = field(default_factory=dict)
    quiet_level_s: float | None = None
    own_level_s: float | None = None
    quiet_share: float | None = None
    device_s: float | None = None
    reference_nodes: Nodes = None
