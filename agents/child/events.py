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
    {"event": "inferred", "shape": [n, ...], "outputs": "..."}
    {"event": "broken", "reason": "..."}                                           the child exits
    {"event": "end"}
"""

from typing import (
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from agents.platform.conditions import Conditions, parse_conditions
from agents.protocol import (
    JsonObject,
    NodesMeasured,
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
    """The outputs for a data set, as in ``InferResult``."""

    shape: List[int]
    outputs: str


class Broken(NamedTuple):
    """The child cannot serve its request, and exits."""

    reason: str


class End(NamedTuple):
    """The request has been served."""


Event = Union[Ready, Opened, FileRefused, RoundsTimed, MemoryMeasured, EnergyPhases, NodesTimed,
              Share, PreparedFile, Inferred, Broken, End]


E = TypeVar("E")


def parse_event(content: JsonObject) -> Optional[Event]:
    """The event in a JSON object; None for one of an unknown kind. Raises KeyError, TypeError and
    ValueError for a malformed one."""
    parse = _PARSERS.get(content.get("event", ""))
    return None if parse is None else parse(content)


def single(events: Sequence[Event], kind: Type[E]) -> E:
    """The first event of a kind. Raises ValueError if a child that ended well sent none."""
    for event in events:
        if isinstance(event, kind):
            return event
    raise ValueError("the child sent no event {}".format(kind.__name__))


def _rounds(content: JsonObject) -> RoundsTimed:
    series = {int(index): _series(one) for index, one in content["series"].items()}
    return RoundsTimed([float(value) for value in content["reference_s"]], series,
                       parse_conditions(content.get("conditions", {})),
                       [int(index) for index in content.get("unsteady", [])])


def series_as_json(series: BlockSeries) -> JsonObject:
    """One candidate's value of ``series`` in the event ``rounds``."""
    return dict(as_json(series.blocks()), samples=pack_samples(series.calls_ns),
                sample_blocks=series.calls_per_block, session_blocks=series.session_blocks)


def _series(content: JsonObject) -> BlockSeries:
    series = BlockSeries()
    series.candidate_s, series.before_s = content["candidate_s"], content["before_s"]
    series.after_s, series.calls_per_block = content["after_s"], content["sample_blocks"]
    series.calls_ns = unpack_samples(content["samples"])
    series.session_blocks = content.get("session_blocks", [])
    return series


def _energy(content: JsonObject) -> EnergyPhases:
    return EnergyPhases(int(content["index"]), Phases(
        _window(content["load"]) or (0.0, 0.0), int(content["calls"]),
        _window(content["idle_before"]), _window(content["idle_after"])))


def _window(ends: Optional[Sequence[float]]) -> Optional[Tuple[float, float]]:
    return (float(ends[0]), float(ends[1])) if ends else None


_PARSERS: Dict[str, Callable[[JsonObject], Event]] = {
    "ready": lambda content: Ready(dict(content["versions"])),
    "opened": lambda content: Opened(
        int(content["index"]), float(content["load_s"]), float(content["first_s"]),
        str(content["provider"]), list(content["outputs"])),
    "refused": lambda content: FileRefused(int(content["index"]), str(content["reason"])),
    "rounds": _rounds,
    "memory": lambda content: MemoryMeasured(
        int(content["index"]), int(content["peak_bytes"]), int(content["baseline_bytes"])),
    "energy": _energy,
    "nodes": lambda content: NodesTimed(int(content["index"]), decode(NodesMeasured, content)),
    "share": lambda content: Share(float(content["done"])),
    "prepared": lambda content: PreparedFile(
        float(content["prepare_s"]), bool(content["reused"]), int(content["kept_bytes"])),
    "inferred": lambda content: Inferred(
        [int(size) for size in content["shape"]], str(content["outputs"])),
    "broken": lambda content: Broken(str(content["reason"])),
    "end": lambda content: End(),
}
