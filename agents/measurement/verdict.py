"""Verdicts. A *reason* makes a measurement invalid. A *doubt* is a warning, and a reason if the
plan refuses doubts. Each text begins with the short stable name of its kind.
"""

from typing import Iterable, List, Mapping, Optional, Sequence

from agents.measurement.watch import CoolDown, DeviceObservations
from agents.platform.conditions import Conditions
from agents.platform.environment import MachineState
from agents.protocol import RUNTIMES, Measured, MeasurePlan, PowerMode, draws_of
from agents.timing.changepoints import bin_medians, drift, largest_shift

CORE_SHARE = 0.96
"""Least fraction of time on a core for a computing thread; the system itself takes 1 %."""
OTHERS_CORES = 0.25
STOLEN_SHARE = 0.05
PRESSURE_SHARE = 0.25
STALL_S, STALL_FACTOR = 0.03, 10.0
"""A call is stalled if it exceeds the median by these seconds and by this factor."""
CLOCK_SHARE = 0.9
DRIFT, STEP = 0.03, 0.1
FEWEST_FOR_STEP = 40
"""Least quiet blocks for a step. Sessions of one file differ by some percent with their placement
in memory, and few blocks may lie in few sessions."""
MOST_OPS = 8
NO_REFUSAL = ("unpinned",)
"""Doubts that are no reason: the governor is part of the environment's key, so that such
measurements are only compared with each other."""


def measuring_thread_computes(runtime: str, provider: str) -> bool:
    """Whether the measuring thread itself computes in real time, and waits for no accelerator."""
    traits = RUNTIMES.get(runtime)
    return (traits is not None and traits.in_process and not traits.own_clock
            and provider in traits.providers and traits.draws(provider) == "cpu")


def condition_doubts(one: Conditions, computes: bool) -> List[str]:
    """Doubts from the conditions of one child's window."""
    found = []
    if computes and one.core_share is not None and one.core_share < CORE_SHARE:
        found.append("interrupted: the measuring thread had a core for only {:.0%} of its time"
                     .format(one.core_share))
    if one.others_cores is not None and one.others_cores > OTHERS_CORES:
        found.append("busy machine: other processes used {:.2g} cores".format(one.others_cores))
    pressure = one.pressure_share or 0.0
    if one.others_cores is None and pressure > PRESSURE_SHARE:
        found.append("busy machine: tasks waited for a core in {:.0%} of the time".format(pressure))
    if one.stolen_share is not None and one.stolen_share > STOLEN_SHARE:
        found.append("stolen: the hypervisor took {:.0%} of the time".format(one.stolen_share))
    return found


def call_doubts(calls_ns: Sequence[int]) -> List[str]:
    """Doubts from single calls of one candidate."""
    if not calls_ns:
        return []
    middle, longest = sorted(calls_ns)[len(calls_ns) // 2], max(calls_ns)
    if longest - middle > STALL_S * 1e9 and longest > STALL_FACTOR * middle:
        return ["stalled: one call took {:.3g} s, the median {:.3g} s".format(
            longest / 1e9, middle / 1e9)]
    return []


def reference_doubts(reference_s: Sequence[float]) -> List[str]:
    """Doubts from the reference's block medians, in order. A steady trend is a doubt; the gate
    handles a shared machine that alternates between speeds."""
    return _trend("the reference's time", reference_s)


def ratio_doubts(ratios: Sequence[float]) -> List[str]:
    """Doubts from the ratios of a candidate's quiet blocks to the reference, in order."""
    values = bin_medians(ratios)
    found = _trend("the ratio to the reference", values)
    step = largest_shift(values) if len(ratios) >= FEWEST_FOR_STEP else None
    if found or step is None or abs(step.ratio - 1) <= STEP:
        return found
    return ["no steady state: the ratio to the reference changed by {:+.1%} at {:.0%} of the window"
            .format(step.ratio - 1, step.at / float(len(values)))]


def _trend(what: str, series: Sequence[float]) -> List[str]:
    trend = drift(series)
    if abs(trend) <= DRIFT:
        return []
    return ["drift: {} changed by {:+.1%} over the window".format(what, trend)]


def clock_doubts(seen: DeviceObservations, mode: Optional[PowerMode],
                 providers: Iterable[str]) -> List[str]:
    """Doubts from the clocks of the hardware that computes. In a known power mode they are compared
    with its clocks, otherwise the CPU's with its highest reading."""
    cpu_khz = gpu_khz = None
    if mode is not None:
        used = {draws_of(provider) for provider in providers if provider}
        cpu_khz = mode.cpu_khz if "cpu" in used else None
        gpu_khz = mode.gpu_khz if "gpu" in used else None
    found = _clock_drop("the clock", seen.clocks_khz, cpu_khz, mode)
    if gpu_khz is not None:
        found += _clock_drop("the GPU's clock", seen.gpu_khz, gpu_khz, mode)
    return found


def _clock_drop(whose: str, clocks_khz: Sequence[int], wanted_khz: Optional[int],
                mode: Optional[PowerMode]) -> List[str]:
    """A drop is a fall below the expected clock after reaching it, or never reaching it: an idle
    device has a low clock before its first call."""
    expected = ""
    if wanted_khz is not None and mode is not None:
        expected = ", the power mode {} has {} kHz".format(mode.name, wanted_khz)
    least_khz = CLOCK_SHARE * (wanted_khz or 0)
    highest_khz = 0
    for clock_khz in clocks_khz:
        highest_khz = max(highest_khz, clock_khz)
        enough_khz = least_khz if wanted_khz is not None else CLOCK_SHARE * highest_khz
        if clock_khz < enough_khz <= highest_khz:
            return ["clock drop: {} fell from {} to {} kHz within the window{}".format(
                whose, highest_khz, clock_khz, expected)]
    if clocks_khz and highest_khz < least_khz:
        return ["clock drop: {} was at most {} kHz{}".format(whose, highest_khz, expected)]
    return []


def device_doubts(before: MachineState, after: MachineState, seen: DeviceObservations,
                  cooled: CoolDown,
              mode: Optional[PowerMode] = None, providers: Iterable[str] = ()) -> List[str]:
    """Doubts from the state of the device; ``mode`` is its power mode."""
    found = []
    if not cooled.enough() and cooled.hottest_c is not None:
        found.append("hot: it began at {:.1f} C, above {:.1f} C, after {:.0f} s of waiting".format(
            cooled.hottest_c, cooled.limit_c, cooled.waited_s))
    found += clock_doubts(seen, mode, providers)
    if before.charging or after.charging:
        found.append("charging: the battery was being charged")
    if before.governor not in (None, "performance"):
        found.append("unpinned: the clocks are left to the governor {!r}".format(
            before.governor))
    return found


def provider_fallback(options: Mapping[str, object], provider: str) -> Optional[str]:
    """A reason if another provider than the first requested one ran the file, otherwise None."""
    name = _asked_provider(options)
    if name is None or not provider or name == provider:
        return None
    return "provider fallback: {} was asked for, {} ran it".format(name, provider)


def with_nodes(measured: Measured, options: Mapping[str, object], plan: MeasurePlan) -> Measured:
    """Adds a reason if no node ran on the first requested provider, and a doubt if some did not. A
    session names its provider wherever its nodes ran."""
    name = _asked_provider(options)
    nodes = measured.nodes.nodes if measured.nodes is not None else []
    elsewhere = [node for node in nodes if node.provider != name]
    if name is None or not elsewhere or any("provider fallback" in one for one in measured.reasons):
        return measured
    text = "provider fallback: {} was asked for, {} of {} nodes ran on {} ({})".format(
        name, sum(node.node_count for node in elsewhere),
        sum(node.node_count for node in nodes),
        ", ".join(sorted({node.provider for node in elsewhere})),
        ", ".join(sorted({node.op for node in elsewhere})[:MOST_OPS]))
    if len(elsewhere) < len(nodes) or measured.verdict == "failed":
        return with_doubts(measured, [text], plan)
    return measured._replace(verdict="invalid", reasons=[*measured.reasons, text])


def _asked_provider(options: Mapping[str, object]) -> Optional[str]:
    """The first of ``providers``, whose entries are names or [name, settings]."""
    asked = options.get("providers")
    first = asked[0] if isinstance(asked, (list, tuple)) and asked else None
    name = first[0] if isinstance(first, (list, tuple)) and first else first
    return None if name is None else str(name)


def with_doubts(measured: Measured, doubts: Sequence[str], plan: MeasurePlan) -> Measured:
    """Adds doubts to the warnings, each once; the measurement becomes invalid if the plan refuses
    doubts."""
    if measured.verdict == "failed":
        return measured
    new = [doubt for doubt in doubts if doubt not in measured.warnings]
    if not new:
        return measured
    warned = measured._replace(warnings=[*measured.warnings, *new])
    refused = [doubt for doubt in new if not doubt.startswith(NO_REFUSAL)]
    if plan.refuse_doubt and refused:
        return warned._replace(verdict="invalid", reasons=[*measured.reasons, *refused])
    return warned
