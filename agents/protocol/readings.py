"""Parts of a measurement beside its latency: power rails, energy, and times of single nodes."""

from typing import List, NamedTuple, Optional


class Rail(NamedTuple):
    """The constant properties of one power rail or energy counter.

    ``name`` ends in ``unit``: a power (W, mW, uW) or a counter of energy (J, mJ, uJ). ``covers``
    is the consumer: board, cpu, gpu, memory or other. ``role``: a ``total`` is used alone. If no
    rail covers the board, the ``addend`` rails are summed. A ``part`` is never summed: it is
    inside another rail, or no documentation excludes that. ``update_s`` is the update period that
    the meter claims, or None; ``wraps_at`` is the range of a counter that wraps.
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
    """All polls of one rail. ``times`` packs nanoseconds since the first poll of the job
    (``unpack_samples``), ``values`` the values in the rail's unit (``unpack_values``)."""

    meter: str
    rail: Rail
    times: str
    values: str


class EnergyMeasured(NamedTuple):
    """The energy of a window in which the candidate ran alone.

    Energies are joules per call, powers are watts, ``_error_`` is a half width. ``problem`` is why
    there are no values, ``idle_problem`` why there is no net energy. ``covers`` names the rails
    used. The windows ``load``, ``idle_before`` and ``idle_after`` are [start, end] in seconds since
    the first poll, or empty.
    """

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


class NodeTime(NamedTuple):
    """A node of the executed graph, or ``node_count`` short nodes of one op, without a name.

    ``time_s`` is seconds per call under the profiler, ``moved_bytes`` the bytes read and written
    per call, None if the profiler does not report them.
    """

    name: str
    op: str
    provider: str
    time_s: float
    node_count: int = 1
    moved_bytes: Optional[int] = None


class Copy(NamedTuple):
    """The time of a copy of ``size_bytes`` in memory."""

    size_bytes: int
    time_s: float


class NodesMeasured(NamedTuple):
    """The nodes of one file by decreasing time, from a child process of their own.

    ``problem`` is why there are none. ``call_s`` is a call without profiler at that time,
    ``idle_call_s`` a call of a graph with one node that computes nothing, ``idle_node_s`` the time
    that each further such node adds, ``profiled_idle_s`` its time under the profiler.
    """

    problem: str
    call_s: Optional[float] = None
    idle_call_s: Optional[float] = None
    idle_node_s: Optional[float] = None
    profiled_idle_s: Optional[float] = None
    nodes: List[NodeTime] = []
    copies: List[Copy] = []
