"""Energy of one inference: which rails count, the load less the idle before and after it.

    P |             ______________            gross = energy of the load / calls
      |            |    load      |           net   = (energy - idle power * duration) / calls
      |___ idle ___|              |___ idle __    idle power = mean of before and after
       before                       after         their difference is the drift, and an error

Without both idle windows there is no net energy, and gross is all that is told.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

from agents.measurement.energy.integral import Integral, Refused, integral
from agents.measurement.energy.polling import Trace
from agents.protocol import Rail

Window = Tuple[float, float]
IDLE_UPDATES = 20
"""An idle window may be shorter: power moves little there."""


class Choice(NamedTuple):
    """The rails that are added, as places in the list that was given; ``covers`` in words."""

    places: List[int]
    covers: str


class Energy(NamedTuple):
    """Per call in joules, power in watts; ``error``s are half widths. ``covers`` says of what;
    ``idle_problem`` why there is no net energy."""

    covers: str
    calls: int
    duration_s: float
    updates: int
    update_s: float
    power_w: float
    power_error_w: float
    gross_j: float
    gross_error_j: float
    net_j: Optional[float]
    net_error_j: Optional[float]
    idle_before_w: Optional[float]
    idle_after_w: Optional[float]
    edge_j: float
    quantisation_j: float
    sampling_j: float
    idle_drift_j: Optional[float]
    idle_problem: str


def choose(rails: Sequence[Rail], draws: str = "board") -> Choice:
    """Which rails tell the energy of what ``draws`` it: cpu, gpu, or anything (``board``).

    A total of the board is used alone. Otherwise all addends, each name once (two meters may read
    the same sensor), which must include what draws. Raises Refused with what is missing.
    """
    for place, rail in enumerate(rails):
        if rail.role == "total" and rail.covers == "board":
            return Choice([place], rail.name)
    addends: List[int] = []
    for place, rail in enumerate(rails):
        if rail.role == "addend" and rail.name not in [rails[one].name for one in addends]:
            addends.append(place)
    covered = {rails[place].covers for place in addends}
    if not addends or (draws in ("cpu", "gpu") and not covered & {draws, "board"}):
        raise Refused("no meter: nothing here tells the energy of the {}{}".format(
            draws, ", only {}".format(", ".join(sorted(covered))) if covered else ""))
    names = [rails[place].name for place in addends]
    return Choice(addends, "{} (no rail covers the board)".format(" + ".join(names)))


def energy(traces: Sequence[Trace], draws: str, load: Window, calls: int,
           idle_before: Optional[Window] = None, idle_after: Optional[Window] = None) -> Energy:
    """The energy of a window that holds exactly ``calls`` calls. Raises Refused."""
    if calls < 1:
        raise Refused("window too short: not one call ended in it")
    choice = choose([trace.rail for trace in traces], draws)
    chosen = [traces[place] for place in choice.places]
    parts = [integral(trace, *load) for trace in chosen]
    duration_s = parts[0].duration_s
    gross_j, error_j = _sum(parts)
    before = after = None
    problem = "no idle windows"
    if idle_before is not None and idle_after is not None:
        try:
            before, after, problem = _idle(chosen, idle_before), _idle(chosen, idle_after), ""
        except Refused as error:
            before, problem = None, "idle: {}".format(error)
    net_j = net_error_j = drift_j = None
    if before is not None and after is not None:
        idle_w = (before[0] + after[0]) / 2
        drift_j = abs(before[0] - after[0]) / 2 * duration_s
        net_j = gross_j - idle_w * duration_s
        net_error_j = error_j + drift_j + max(before[1], after[1]) * duration_s
    return Energy(
        choice.covers, calls, duration_s, min(one.updates for one in parts),
        max(one.update_s for one in parts), gross_j / duration_s, error_j / duration_s,
        gross_j / calls, error_j / calls, _per(net_j, calls), _per(net_error_j, calls),
        before[0] if before else None, after[0] if after else None,
        sum(one.edge_j for one in parts) / calls,
        sum(one.quantisation_j for one in parts) / calls,
        sum(one.sampling_j for one in parts) / calls, _per(drift_j, calls), problem)


def _sum(parts: Sequence[Integral]) -> Tuple[float, float]:
    return sum(one.energy_j for one in parts), sum(one.error_j for one in parts)


def _idle(traces: Sequence[Trace], window: Window) -> Tuple[float, float]:
    """Mean power and its error in watts. Raises Refused."""
    parts = [integral(trace, window[0], window[1], IDLE_UPDATES) for trace in traces]
    energy_j, error_j = _sum(parts)
    return energy_j / parts[0].duration_s, error_j / parts[0].duration_s


def _per(value: Optional[float], calls: int) -> Optional[float]:
    return None if value is None else value / calls
