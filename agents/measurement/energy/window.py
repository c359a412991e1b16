"""The energy of one candidate as the parent sees it: meters polled, the child's windows, a message.

    parent   open meters | poll poll poll ... poll | figures
    child    open | rest | work | rest | windows told

Times of the child and of the parent are of one clock, the system's monotonic one.
"""

import time
from typing import Any, Callable, Dict, List, Optional, Sequence

from agents.measurement.energy.integral import Refused
from agents.measurement.energy.per_inference import Window, choose, energy
from agents.measurement.energy.polling import Recorder, Trace
from agents.measurement.energy.rails import by_profile, cover_of
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

NS = 1e9


def usable(meters: Sequence[PowerMeter], draws: str,
           profile: ProfileFacts = UNKNOWN) -> List[PowerMeter]:
    """Those without a problem, if together they tell the energy of what draws. Raises Refused with
    every problem."""
    problems = {meter.name: meter.problem() for meter in meters}
    found = [meter for meter in meters if problems[meter.name] is None]
    try:
        choose([rail for meter in found for rail in by_profile(meter.rails(), profile)], draws)
    except Refused as error:
        told = ["{}: {}".format(name, problem) for name, problem in problems.items() if problem]
        raise Refused("; ".join([str(error), *told])) from None
    return found


def offered(meters: Sequence[PowerMeter]) -> Dict[str, str]:
    """For the cpu and for the gpu: ``ok``, or why its energy cannot be told here."""
    found = {}
    for draws in ("cpu", "gpu"):
        try:
            usable(meters, draws)
            found[draws] = "ok"
        except Refused as error:
            found[draws] = str(error)
    return found


class EnergyWindow:
    """One window. ``poll`` is to be called about every ``period_s``; ``close`` frees the meters."""

    def __init__(self, meters: Optional[Sequence[PowerMeter]] = None,
                 clock: Callable[[], float] = time.perf_counter,
                 profile: ProfileFacts = UNKNOWN) -> None:
        if meters is None:
            from agents.meters.catalog import power_meters  # ctypes: only where energy is asked for
            meters = power_meters()
        self._meters = list(meters)
        readable = [meter for meter in self._meters if meter.problem() is None]
        self._profile = profile
        self._recorder = Recorder(readable, clock, profile)
        self.period_s = self._recorder.period_s()

    def problem(self, provider: str) -> Optional[str]:
        """Why the energy of this provider cannot be told, before anything is run."""
        try:
            usable(self._meters, draws_of(provider), self._profile)
        except Refused as error:
            return str(error)
        return None

    def poll(self) -> None:
        self._recorder.poll()

    def measured(self, event: Dict[str, Any], provider: str) -> EnergyMeasured:
        """What the windows that the child told come to."""
        draws = draws_of(provider)
        windows = [_window(event[name]) for name in ("load", "idle_before", "idle_after")]
        traces = self._recorder.traces()
        origin_s = min([trace.times_s[0] for trace in traces if trace.times_s] or [0.0])
        packed: Dict[str, Any] = {
            "calls": int(event["calls"]), "load": _since(windows[0], origin_s),
            "idle_before": _since(windows[1], origin_s), "idle_after": _since(windows[2], origin_s),
            "rails": [_packed(trace, origin_s) for trace in traces]}
        try:
            found = energy(traces, draws, windows[0] or (0.0, 0.0), packed["calls"], windows[1],
                           windows[2])
        except Refused as error:
            return EnergyMeasured(problem=str(error), **packed)
        figures = found._asdict()
        rails = [trace.rail for trace in traces]
        used = [rails[place] for place in choose(rails, draws).places]
        cover = cover_of(used, self._profile)
        if cover:
            figures["covers"] = "{} ({})".format(" + ".join(rail.name for rail in used), cover)
        for name in ("calls", "duration_s"):
            del figures[name]
        return EnergyMeasured(problem="", **dict(packed, **figures))

    def close(self) -> None:
        for meter in self._meters:
            meter.close()


def _window(told: Optional[Sequence[float]]) -> Optional[Window]:
    return (float(told[0]), float(told[1])) if told else None


def _since(window: Optional[Window], origin_s: float) -> List[float]:
    return [moment - origin_s for moment in window] if window else []


def _packed(trace: Trace, origin_s: float) -> RailTrace:
    return RailTrace(trace.meter, trace.rail,
                     pack_samples(int((moment - origin_s) * NS) for moment in trace.times_s),
                     pack_values(trace.values))
