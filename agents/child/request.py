"""The request that an agent sends to a measuring child: one JSON object on its stdin."""

from typing import List, NamedTuple, Optional

from agents.protocol import JsonObject, MeasurePlan

NO_DESCRIPTOR = -1


class ChildRequest(NamedTuple):
    """What one child does.

    ``mode`` is pairs, memory, energy, nodes, infer, prepare, prove or versions. ``indexes`` are
    the parent's numbers of the files in ``paths``, the reference (0) first. ``inputs`` is a data
    set, ``outputs`` are the names of those to answer (empty: all). ``folder`` is where the runtime
    stores what it prepares, ``provider`` is to be proved.
    ``position_descriptor`` is the inherited file of ``SharedProgress``; ``ProcessChild`` sets it.
    """

    mode: str
    indexes: List[int] = []
    paths: List[str] = []
    inputs: str = ""
    outputs: List[str] = []
    folder: Optional[str] = None
    provider: str = ""
    options: JsonObject = {}
    input_seed: int = 0
    quiet_level_s: Optional[float] = None
    plan: Optional[MeasurePlan] = None
    position_descriptor: int = NO_DESCRIPTOR
