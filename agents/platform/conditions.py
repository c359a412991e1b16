"""Conditions of a window: the CPU time that the measuring process got while it timed blocks.

    conditions_now ............................ blocks ......................... conditions_now
      '-> wall time, own CPU time, ticks of all cores, stolen ticks, time under pressure <-'

Read from /proc and ``getrusage`` at both ends of the window, so that it costs nothing inside.
Values that a system does not report are None; outside Linux that is all but ``wall_s``.
"""

import time
from typing import NamedTuple, Optional

from agents.platform.environment import CpuTicks, cpu_ticks
from agents.platform.sysfs import SystemTree

TICKS_PER_S = 100.0
"""USER_HZ, which is 100 in every current Linux."""


class ConditionsSnapshot(NamedTuple):
    """Counters at one moment; seconds and microseconds since arbitrary origins."""

    wall_s: float
    thread_s: Optional[float]
    process_s: float
    ticks: Optional[CpuTicks]
    pressure_us: Optional[int]


class Conditions(NamedTuple):
    """Fractions of a window of ``wall_s`` seconds.

    ``core_share`` is the fraction in which the measuring thread ran on a core, ``others_cores`` the
    number of cores that all other processes used, ``stolen_share`` the fraction of CPU time that a
    hypervisor took, ``pressure_share`` the fraction in which a task waited for a core.
    """

    wall_s: float
    core_share: Optional[float] = None
    others_cores: Optional[float] = None
    stolen_share: Optional[float] = None
    pressure_share: Optional[float] = None


def conditions_now(tree: SystemTree) -> ConditionsSnapshot:
    """The counters of the calling thread, its process and the machine."""
    return ConditionsSnapshot(time.monotonic(), _thread_s(), time.process_time(), cpu_ticks(tree),
                _pressure_us(tree))


def conditions_between(first: ConditionsSnapshot, last: ConditionsSnapshot) -> Conditions:
    """The conditions between two snapshots of the same process."""
    wall_s = last.wall_s - first.wall_s
    if wall_s <= 0:
        return Conditions(max(wall_s, 0.0))
    core_share = others = stolen = pressure = None
    if first.thread_s is not None and last.thread_s is not None:
        core_share = min((last.thread_s - first.thread_s) / wall_s, 1.0)
    if first.ticks and last.ticks and last.ticks.total > first.ticks.total:
        used = (last.ticks.busy - first.ticks.busy) / TICKS_PER_S
        others = max(used - (last.process_s - first.process_s), 0.0) / wall_s
        stolen = ((last.ticks.steal - first.ticks.steal)
                  / float(last.ticks.total - first.ticks.total))
    if first.pressure_us is not None and last.pressure_us is not None:
        pressure = (last.pressure_us - first.pressure_us) / 1e6 / wall_s
    return Conditions(wall_s, core_share, others, stolen, pressure)


def _thread_s() -> Optional[float]:
    try:
        import resource
        used = resource.getrusage(resource.RUSAGE_THREAD)
    except (ImportError, AttributeError, OSError):
        return None
    return used.ru_utime + used.ru_stime


def _pressure_us(tree: SystemTree) -> Optional[int]:
    """``some ... total=123``: microseconds since boot in which a task waited for a core."""
    first = (tree.text("/proc/pressure/cpu") or "").partition("\n")[0]
    digits = first.rpartition("total=")[2]
    return int(digits) if digits.isdigit() else None
