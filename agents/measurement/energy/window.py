"""The energy of one candidate: the parent polls meters while the child runs its phases.

    parent   open meters | poll poll poll ... poll       | energy
    child    open | idle | load | idle | reports windows

Both processes use the system's monotonic clock.
"""

import time
from typing import Callable, Dict, List, Optional, Sequence

from agents.measurement.energy.integral import EnergyUnavailable
from agents.measurement.energy.per_inference import (
    Window,
    energy_per_inference,
    select_rails,
)
from agents.measurement.energy.polling import MeterRecorder, PolledRail
from agents.measurement.energy.rails import profile_coverage, with_profile_roles
from agents.meters.base import PowerMeter
from agents.protocol import (
    UNKNOWN,
    EnergyMeasured,
    ProfileFacts,
    RailTrace,
    draws_of,
    pack_samples,
    pack_values,
)
from agents.timing.energy_phases import Phases

NS = 1e9


def usable_meters(meters: Sequence[PowerMeter], draws: str,
           profile: ProfileFacts = UNKNOWN) -> List[PowerMeter]:
    """The meters without a problem, if their rails cover ``draws`` (cpu, gpu or board). Raises
    EnergyUnavailable with the problem of each meter."""
    problems = {meter.name: meter.problem() for meter in meters}
    found = [meter for meter in meters if problems[meter.name] is None]
    try:
        rails = [rail for meter in found for rail in with_profile_roles(meter.rails(), profile)]
        select_rails(rails, draws)
    except EnergyUnavailable as error:
        reasons = ["{}: {}".format(name, problem) for name, problem in problems.items() if problem]
        raise EnergyUnavailable("; ".join([str(error), *reasons])) from None
    return found


def energy_support(meters: Sequence[PowerMeter]) -> Dict[str, str]:
    """``ok`` for ``cpu`` and ``gpu``, or why their energy cannot be measured on this device."""
    found = {}
    for draws in ("cpu", "gpu"):
        try:
            usable_meters(meters, draws)
            found[draws] = "ok"
        except EnergyUnavailable as error:
            found[draws] = str(error)
    return found


class EnergyWindow:
    """One energy measurement. Call ``poll`` about every ``period_s``, and ``close`` at the end."""

    def __init__(self, meters: Optional[Sequence[PowerMeter]] = None,
                 clock: Callable[[], float] = time.perf_counter,
                 profile: ProfileFacts = UNKNOWN) -> None:
        if meters is None:
            from agents.meters.catalog import power_meters  # imports ctypes
            meters = power_meters()
        self._meters = list(meters)
        readable = [meter for meter in self._meters if meter.problem() is None]
        self._profile = profile
        self._recorder = MeterRecorder(readable, clock, profile)
        self.period_s = self._recorder.period_s()

    def problem(self, provider: str) -> Optional[str]:
        """Why the energy of this provider cannot be measured; None if it can."""
        try:
            usable_meters(self._meters, draws_of(provider), self._profile)
        except EnergyUnavailable as error:
            return str(error)
        return None

    def poll(self) -> None:
        self._recorder.poll()

    def measured(self, phases: Phases, provider: str) -> EnergyMeasured:
        """The energy of the child's phases, from the polls so far."""
        draws = draws_of(provider)
        traces = self._recorder.traces()
        origin_s = min([trace.times_s[0] for trace in traces if trace.times_s] or [0.0])
        windows = EnergyMeasured(
            problem="", calls=phases.calls, load=_since(phases.load, origin_s),
            idle_before=_since(phases.idle_before, origin_s),
            idle_after=_since(phases.idle_after, origin_s),
            rails=[_packed(trace, origin_s) for trace in traces])
        try:
            found = energy_per_inference(traces, draws, phases.load, phases.calls,
                                         phases.idle_before, phases.idle_after)
        except EnergyUnavailable as error:
            return windows._replace(problem=str(error))
        rails = [trace.rail for trace in traces]
        used = [rails[place] for place in select_rails(rails, draws).places]
        cover = profile_coverage(used, self._profile)
        named = "{} ({})".format(" + ".join(rail.name for rail in used), cover)
        return windows._replace(
            covers=named if cover else found.covers, updates=found.updates,
            update_s=found.update_s, power_w=found.power_w, power_error_w=found.power_error_w,
            gross_j=found.gross_j, gross_error_j=found.gross_error_j, net_j=found.net_j,
            net_error_j=found.net_error_j, idle_before_w=found.idle_before_w,
            idle_after_w=found.idle_after_w, edge_j=found.edge_j,
            quantisation_j=found.quantisation_j, sampling_j=found.sampling_j,
            idle_drift_j=found.idle_drift_j, idle_problem=found.idle_problem)

    def close(self) -> None:
        for meter in self._meters:
            meter.close()


def _since(window: Optional[Window], origin_s: float) -> List[float]:
    return [moment - origin_s for moment in window] if window else []


def _packed(trace: PolledRail, origin_s: float) -> RailTrace:
    return RailTrace(trace.meter, trace.rail,
                     pack_samples(int((moment - origin_s) * NS) for moment in trace.times_s),
                     pack_values(trace.values))
