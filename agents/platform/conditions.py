"""Conditions of a window: what the measuring process got of its machine while it timed.

    look ............ blocks ............ look
      |-> wall, own time on a core, ticks of all cores, stolen ticks, time under pressure <-|

Everything here comes from /proc and ``getrusage`` at the two ends of the window and costs nothing
inside it. What a system does not tell is None. Linux; elsewhere all is None but ``wall_s``.
"""

import time
from typing import Any, Dict, NamedTuple, Optional

from agents.platform.environment import cpu_ticks
from agents.platform.sysfs import Tree

TICKS_PER_S = 100.0
"""USER_HZ, which every Linux of today shows to programs."""


class Look(NamedTuple):
    wall_s: float
    thread_s: Optional[float]
    process_s: float
    ticks: Optional[Dict[str, int]]
    pressure_us: Optional[int]


class Conditions(NamedTuple):
    """``core_share``: of the wall time, in which the measuring thread was on a core;
    ``others_cores``: cores that all other processes used; ``stolen_share``: of the machine's
    time, by the hypervisor; ``pressure_share``: of the wall time, in which a task had to wait."""

    wall_s: float
    core_share: Optional[float] = None
    others_cores: Optional[float] = None
    stolen_share: Optional[float] = None
    pressure_share: Optional[float] = None


def look(tree: Tree) -> Look:
    return Look(time.monotonic(), _thread_s(), time.process_time(), cpu_ticks(tree),
                _pressure_us(tree))


def between(first: Look, last: Look) -> Conditions:
    """What happened from one look to another of the same process."""
    wall_s = last.wall_s - first.wall_s
    if wall_s <= 0:
        return Conditions(max(wall_s, 0.0))
    core_share = others = stolen = pressure = None
    if first.thread_s is not None and last.thread_s is not None:
        core_share = min((last.thread_s - first.thread_s) / wall_s, 1.0)
    if first.ticks and last.ticks and last.ticks["total"] > first.ticks["total"]:
        used = (last.ticks["busy"] - first.ticks["busy"]) / TICKS_PER_S
        others = max(used - (last.process_s - first.process_s), 0.0) / wall_s
        stolen = ((last.ticks["steal"] - first.ticks["steal"])
                  / float(last.ticks["total"] - first.ticks["total"]))
    if first.pressure_us is not None and last.pressure_us is not None:
        pressure = (last.pressure_us - first.pressure_us) / 1e6 / wall_s
    return Conditions(wall_s, core_share, others, stolen, pressure)


def conditions_of(content: Dict[str, Any]) -> Conditions:
    """What ``Conditions._asdict`` became on its way through JSON."""
    known: Dict[str, Any] = {name: content.get(name) for name in Conditions._fields}
    return Conditions(**known)


def _thread_s() -> Optional[float]:
    try:
        import resource
        used = resource.getrusage(resource.RUSAGE_THREAD)
    except (ImportError, AttributeError, OSError):
        return None
    return used.ru_utime + used.ru_stime


def _pressure_us(tree: Tree) -> Optional[int]:
    """``some ... total=123``: microseconds in which a task waited for a core, since boot."""
    first = (tree.text("/proc/pressure/cpu") or "").partition("\n")[0]
    digits = first.rpartition("total=")[2]
    return int(digits) if digits.isdigit() else None
