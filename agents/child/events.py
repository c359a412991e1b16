"""The events of a measuring child: JSON objects on its stdout, parsed into typed events.

    {"event": "ready", "versions": {...}}
    {"event": "opened", "index": i, "load_s", "first_s", "provider", "outputs"}    i = 0: reference
    {"event": "refused", "index": i, "reason": "unloadable: ..."}                  others continue
                              "reason": "not_prepared: ..."}
    {"event": "rounds", "reference_s": [...], "series": {i: [medians, ...]}, "openings": n,
     "conditions": {...}, "unsteady": [i, ...], "repeats": {i: n}}
    {"event": "memory", "index": i, "baseline_bytes", "peak_bytes"}
    {"event": "energy", "index": i, "load", "calls", "idle_before", "idle_after"}
    {"event": "nodes", "index": i, ...}                                            NodesMeasured
    {"event": "share", "done": 0 to 1}
    {"event": "prepared", "prepare_s", "reused", "kept_bytes"}
    {"event": "inferred", "outputs": [InferredOutput, ...]}
    {"event": "broken", "reason": "..."}                                           the child exits
    {"event": "end"}
"""

from typing import (
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from agents.platform.conditions import Conditions
from agents.protocol import (
    InferredOutput,
    JsonObject,
    NodesMeasured,
    ProtocolError,
    as_json,
    decode,
    pack_samples,
    unpack_samples,
)
from agents.timing.blocks import BlockSeries
from agents.timing.energy_phases import Phases


class Ready(NamedTuple):
    """The runtime's library is imported; ``versions`` is what ``Runtime.versions`` returned."""

    versions: JsonObject


class Opened(NamedTuple):
    """The first opening and call of a file, by its number; ``outputs`` has None for values that are
    not finite."""

    file: int
    load_s: float
    first_s: float
    provider: str
    outputs: List[Optional[float]]


class FileRefused(NamedTuple):
    """The runtime cannot load or run a file."""

    file: int
    reason: str


class RoundsTimed(NamedTuple):
    """The blocks of one process; ``series`` is by number of the candidate's file."""

    reference_s: List[float]
    series: Dict[int, BlockSeries]
    conditions: Conditions
    unsteady: List[int]


class MemoryMeasured(NamedTuple):
    """Resident bytes of the process at its peak, and before the file was opened."""

    file: int
    peak_bytes: int
    baseline_bytes: int


class EnergyPhases(NamedTuple):
    """The windows of an energy measurement, in seconds of the system's monotonic clock."""

    file: int
    phases: Phases


class NodesTimed(NamedTuple):
    """The node times of one file."""

    file: int
    measured: NodesMeasured


class Share(NamedTuple):
    """The fraction of an inference that is done, 0 to 1."""

    done: float


class PreparedFile(NamedTuple):
    """The outcome of ``Runtime.prepare``."""

    prepare_s: float
    reused: bool
    kept_bytes: int


class Inferred(NamedTuple):
    """The outputs for a data set, in the order of the file."""

    outputs: List[InferredOutput]


class Broken(NamedTuple):
    """The child cannot serve its request, and exits."""

    reason: str


class End(NamedTuple):
    """The request has been served."""


Event = Union[Ready, Opened, FileRefused, RoundsTimed, MemoryMeasured, EnergyPhases, NodesTimed,
              Share, PreparedFile, Inferred, Broken, End]


E = TypeVar("E")


class _RoundsContent(NamedTuple):
    """The event ``rounds``, whose ``series`` are ``_SeriesContent``."""

    reference_s: List[float]
    series: Dict[str, object]
    conditions: Conditions = Conditions(0.0)
    unsteady: List[int] = []


class _SeriesContent(NamedTuple):
    """One candidate's ``BlockSeries`` in the event ``rounds``."""

    candidate_s: List[float]
    before_s: List[float]
    after_s: List[float]
    samples: str
    sample_blocks: List[int]
    session_blocks: List[int] = []


class _FileContent(NamedTuple):
    """The file that an event is about."""

    file: int


class _EnergyContent(NamedTuple):
    """The event ``energy``; a window is [start, end]."""

    file: int
    load: List[float]
    calls: int
    idle_before: Optional[List[float]]
    idle_after: Optional[List[float]]


def parse_event(content: Mapping[str, object]) -> Optional[Event]:
    """The event in a JSON object; None for one of an unknown kind. Raises ValueError for a
    malformed one."""
    parse = _PARSERS.get(str(content.get("event", "")))
    if parse is None:
        return None
    fields = dict(content)
    if "index" in fields:
        fields["file"] = fields.pop("index")  # a tuple cannot have a field "index"
    try:
        return parse(fields)
    except ProtocolError as error:
        raise ValueError("The child sent a malformed event: {}".format(error)) from error


def single(events: Sequence[Event], kind: Type[E]) -> E:
    """The first event of a kind. Raises ValueError if a child that ended well sent none."""
    for event in events:
        if isinstance(event, kind):
            return event
    raise ValueError("the child sent no event {}".format(kind.__name__))


def _rounds(content: Mapping[str, object]) -> RoundsTimed:
    found = decode(_RoundsContent, content)
    series = {int(index): _series(one) for index, one in found.series.items()}
    return RoundsTimed(found.reference_s, series, found.conditions, found.unsteady)


def series_as_json(series: BlockSeries) -> JsonObject:
    """One candidate's value of ``series`` in the event ``rounds``."""
    return dict(as_json(series.blocks()), samples=pack_samples(series.calls_ns),
                sample_blocks=series.calls_per_block, session_blocks=series.session_blocks)


def _series(content: object) -> BlockSeries:
    found = decode(_SeriesContent, content)
    series = BlockSeries()
    series.candidate_s, series.before_s = found.candidate_s, found.before_s
    series.after_s, series.calls_per_block = found.after_s, found.sample_blocks
    series.calls_ns = unpack_samples(found.samples)
    series.session_blocks = list(found.session_blocks)
    return series


def _energy(content: Mapping[str, object]) -> EnergyPhases:
    found = decode(_EnergyContent, content)
    return EnergyPhases(found.file, Phases(
        _window(found.load) or (0.0, 0.0), found.calls,
        _window(found.idle_before), _window(found.idle_after)))


def _window(ends: Optional[Sequence[float]]) -> Optional[Tuple[float, float]]:
    return (ends[0], ends[1]) if ends else None


def _nodes(content: Mapping[str, object]) -> NodesTimed:
    return NodesTimed(decode(_FileContent, content).file, decode(NodesMeasured, content))


_PARSERS: Dict[str, Callable[[Mapping[str, object]], Event]] = {
    "ready": lambda content: decode(Ready, content),
    "opened": lambda content: decode(Opened, content),
    "refused": lambda content: decode(FileRefused, content),
    "rounds": _rounds,
    "memory": lambda content: decode(MemoryMeasured, content),
    "energy": _energy,
    "nodes": _nodes,
    "share": lambda content: decode(Share, content),
    "prepared": lambda content: decode(PreparedFile, content),
    "inferred": lambda content: decode(Inferred, content),
    "broken": lambda content: decode(Broken, content),
    "end": lambda content: decode(End, content),
}
