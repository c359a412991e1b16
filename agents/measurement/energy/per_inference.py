"""Energy of one inference: gross from the load window, net of the idle power around it.

    P |             ______________            gross = energy of the load / calls
      |            |    load      |           net   = (energy - idle power * duration) / calls
      |___ idle ___|              |___ idle __    idle power = mean of before and after
       before                       after         their difference is the drift, and an error

Without both idle windows there is gross energy only.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

from agents.measurement.energy.integral import EnergyUnavailable, Integral, integral
from agents.measurement.energy.polling import PolledRail
from agents.protocol import Rail

Window = Tuple[float, float]
IDLE_UPDATES = 20
"""Least updates in an idle window, where power varies little."""


class RailSelection(NamedTuple):
    """``places`` are indices of the rails to sum; ``covers`` describes them."""

    places: List[int]
    covers: str


class InferenceEnergy(NamedTuple):
    """Energies per call in joules, powers in watts, errors as half widths. ``covers`` names the
    rails, ``idle_problem`` says why there is no net energy."""

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


def select_rails(rails: Sequence[Rail], draws: str = "board") -> RailSelection:
    """The rails that cover the consumer ``draws``: cpu, gpu or board.

    A total of the board is used alone. Otherwise all addends are summed, each name once, because
    two meters may read the same sensor; they must cover ``draws``. Raises EnergyUnavailable.
    """
    for place, rail in enumerate(rails):
        if rail.role == "total" and rail.covers == "board":
            return RailSelection([place], rail.name)
    addends: List[int] = []
    for place, rail in enumerate(rails):
        if rail.role == "addend" and rail.name not in [rails[one].name for one in addends]:
            addends.append(place)
    covered = {rails[place].covers for place in addends}
    if not addends or (draws in ("cpu", "gpu") and not covered & {draws, "board"}):
        raise EnergyUnavailable("no meter: no rail covers the {}{}".format(
            draws, ", only {}".format(", ".join(sorted(covered))) if covered else ""))
    names = [rails[place].name for place in addends]
    return RailSelection(addends, "{} (no rail covers the board)".format(" + ".join(names)))


def energy_per_inference(
    traces: Sequence[PolledRail], draws: str, load: Window, calls: int,
    idle_before: Optional[Window] = None, idle_after: Optional[Window] = None,
) -> InferenceEnergy:
    """The energy per call of the window ``load``, which holds exactly ``calls`` calls. Raises
    EnergyUnavailable."""
    if calls < 1:
        raise EnergyUnavailable("window too short: not one call ended in it")
    choice = select_rails([trace.rail for trace in traces], draws)
    chosen = [traces[place] for place in choice.places]
    parts = [integral(trace, *load) for trace in chosen]
    duration_s = parts[0].duration_s
    gross_j, error_j = _sum(parts)
    before = after = None
    problem = "no idle windows"
    if idle_before is not None and idle_after is not None:
        try:
            before, after, problem = _idle(chosen, idle_before), _idle(chosen, idle_after), ""
        except EnergyUnavailable as error:
            before, problem = None, "idle: {}".format(error)
    net_j = net_error_j = drift_j = None
    if before is not None and after is not None:
        idle_w = (before[0] + after[0]) / 2
        drift_j = abs(before[0] - after[0]) / 2 * duration_s
        net_j = gross_j - idle_w * duration_s
        net_error_j = error_j + drift_j + max(before[1], after[1]) * duration_s
    return InferenceEnergy(
        choice.covers, calls, duration_s, min(one.updates for one in parts),
        max(one.update_s for one in parts), gross_j / duration_s, error_j / duration_s,
        gross_j / calls, error_j / calls, _per(net_j, calls), _per(net_error_j, calls),
        before[0] if before else None, after[0] if after else None,
        sum(one.edge_j for one in parts) / calls,
        sum(one.quantisation_j for one in parts) / calls,
        sum(one.sampling_j for one in parts) / calls, _per(drift_j, calls), problem)


def _sum(parts: Sequence[Integral]) -> Tuple[float, float]:
    return sum(one.energy_j for one in parts), sum(one.error_j for one in parts)


def _idle(traces: Sequence[PolledRail], window: Window) -> Tuple[float, float]:
    """Mean power of an idle window and its error in watts. Raises EnergyUnavailable."""
    parts = [integral(trace, window[0], window[1], IDLE_UPDATES) for trace in traces]
    energy_j, error_j = _sum(parts)
    return energy_j / parts[0].duration_s, error_j / parts[0].duration_s


def _per(value: Optional[float], calls: int) -> Optional[float]:
    return None if value is None else value / calls
