"""What a measurement tells beside its times: rails and energy, and the times of single nodes. Parts
of the wire (agents/protocol/)."""

from typing import List, NamedTuple, Optional


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


class NodeTime(NamedTuple):
    """A node of the graph that really runs, or ``node_count`` short ones of one op together, which
    have no name: seconds per call under the profile, bytes read and written where that tells."""

    name: str
    op: str
    provider: str
    time_s: float
    node_count: int = 1
    moved_bytes: Optional[int] = None


class Copy(NamedTuple):
    """What copying so many bytes took."""

    size_bytes: int
    time_s: float


class NodesMeasured(NamedTuple):
    """Single nodes of one file, timed in a child of their own, longest first; ``problem`` is why
    there are none. ``call_s`` is a call without the profile at that time, ``idle_call_s`` one of a
    graph with one node that computes nothing, ``idle_node_s`` what each further such node adds,
    ``profiled_idle_s`` what the profile says of one."""

    problem: str
    call_s: Optional[float] = None
    idle_call_s: Optional[float] = None
    idle_node_s: Optional[float] = None
    profiled_idle_s: Optional[float] = None
    nodes: List[NodeTime] = []
    copies: List[Copy] = []
