"""Identity and state of the device. A value that the device does not report is None or absent.

``machine_identity`` is constant while the agent runs, ``machine_state`` is read before and after a
job. Units are in the names; temperatures in degrees Celsius, clocks in kHz, fractions 0 to 1.
"""

import os
import platform
import socket
from typing import Dict, List, NamedTuple, Optional, Sequence

from agents.platform.sysfs import SystemTree
from agents.protocol import JsonObject, as_json, canonical_json, content_sha256

# The zone PMIC-Die of Tegra boards always reads 100 degrees.
IGNORED_ZONES = ("PMIC-Die",)
OFFLINE_C = -255.0
POWER_MODE = "/var/lib/nvpmodel/status"


class CpuTicks(NamedTuple):
    """Ticks of all cores since boot (/proc/stat): total, busy, and stolen by a hypervisor."""

    total: int
    busy: int
    steal: int


class MachineIdentity(NamedTuple):
    """What identifies hardware and operating system."""

    hostname: str
    board: Optional[str]
    system: str
    machine: str
    cpu_model: Optional[str]
    cores: int
    memory_bytes: Optional[int]
    kernel: str
    python: str


class MachineState(NamedTuple):
    """What can disturb a measurement. ``throttle_count`` is since boot, ``pressure_cpu_avg10`` a
    percentage."""

    governor: Optional[str] = None
    clocks_khz: List[int] = []
    power_mode: Optional[int] = None
    temperatures_c: Dict[str, float] = {}
    throttle_count: Optional[int] = None
    load_1min: Optional[float] = None
    pressure_cpu_avg10: Optional[float] = None
    cpu_ticks: Optional[CpuTicks] = None
    charging: Optional[bool] = None


def machine_identity(tree: SystemTree) -> MachineIdentity:
    """The identity of this machine; it does not change while the agent runs."""
    cpu = tree.fields("/proc/cpuinfo")
    return MachineIdentity(
        hostname=socket.gethostname(),
        board=tree.text("/proc/device-tree/model"),
        system=platform.system(),
        machine=platform.machine(),
        cpu_model=cpu.get("model name") or cpu.get("Model") or cpu.get("Hardware") or None,
        cores=os.cpu_count() or 1,
        memory_bytes=tree.kibibytes("/proc/meminfo", "MemTotal"),
        kernel=tree.text("/proc/sys/kernel/osrelease") or platform.release(),
        python=platform.python_version())


def machine_state(tree: SystemTree, ignored_zones: Sequence[str] = ()) -> MachineState:
    """The present state of this machine; ``ignored_zones`` are thermal zones to leave out."""
    return MachineState(
        governor=_agreed(tree, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"),
        clocks_khz=_integers(
            tree, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"),
        power_mode=power_mode_id(tree),
        temperatures_c=temperatures(tree, ignored_zones),
        throttle_count=throttle_count(tree),
        load_1min=_first_number(tree.text("/proc/loadavg")),
        pressure_cpu_avg10=_pressure(tree.text("/proc/pressure/cpu")),
        cpu_ticks=cpu_ticks(tree),
        charging=charging(tree))


def power_mode_id(tree: SystemTree) -> Optional[int]:
    """The power mode that nvpmodel has set (``pmode:0002``); None if it has set none."""
    key, _, digits = (tree.text(POWER_MODE) or "").partition("\n")[0].partition(":")
    words = digits.split()
    return int(words[0]) if key == "pmode" and words and words[0].isdigit() else None


def temperatures(tree: SystemTree, ignored_zones: Sequence[str] = ()) -> Dict[str, float]:
    """Degrees Celsius by thermal zone, without disabled zones and those known to measure
    nothing."""
    ignored = (*IGNORED_ZONES, *ignored_zones)
    found = {}
    for path in tree.paths("/sys/class/thermal/thermal_zone[0-9]*/temp"):
        name = tree.text(os.path.dirname(path) + "/type") or os.path.basename(os.path.dirname(path))
        millidegrees = tree.integer(path)
        if millidegrees is None or name in ignored or millidegrees / 1000.0 <= OFFLINE_C:
            continue
        found[name] = millidegrees / 1000.0
    return found


def throttle_count(tree: SystemTree) -> Optional[int]:
    """How often cores were throttled since boot; None if there is no counter."""
    counts = _integers(tree, "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
    return sum(counts) if counts else None


def charging(tree: SystemTree) -> Optional[bool]:
    """Whether a battery is charging, which heats a phone; None without a battery."""
    supplies = tree.paths("/sys/class/power_supply/*/type")
    states = [tree.text(os.path.dirname(path) + "/status") for path in supplies
              if tree.text(path) == "Battery"]
    return "Charging" in states if states else None


def cpu_ticks(tree: SystemTree) -> Optional[CpuTicks]:
    """The ticks of all cores; None if /proc/stat has another form."""
    lines = (tree.text("/proc/stat") or "").splitlines()
    words = lines[0].split() if lines else []
    if len(words) < 9 or words[0] != "cpu" or not all(word.isdigit() for word in words[1:9]):
        return None
    numbers = [int(word) for word in words[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = numbers
    return CpuTicks(sum(numbers), user + nice + system + irq + softirq, steal)


def steal_fraction(before: MachineState, after: MachineState) -> Optional[float]:
    """The fraction of CPU time that a hypervisor took between two states."""
    first, last = before.cpu_ticks, after.cpu_ticks
    if first is None or last is None or last.total <= first.total:
        return None
    return (last.steal - first.steal) / float(last.total - first.total)


def was_throttled(before: MachineState, after: MachineState) -> bool:
    """Whether a throttle counter rose between two states."""
    first, last = before.throttle_count, after.throttle_count
    return first is not None and last is not None and last > first


def measurement_environment(
    identity: MachineIdentity, runtime: object, before: MachineState, after: MachineState,
) -> JsonObject:
    """The environment of a measurement, as it is sent; ``runtime`` is what
    ``Runtime.versions`` returned. Measurements with equal ``key`` can share a
    quiet level: it covers machine, system, runtime versions, governor and power mode."""
    kept: JsonObject = {
        "identity": as_json(identity), "runtime": runtime, "governor": before.governor}
    if before.power_mode is not None:
        kept["power_mode"] = before.power_mode
    return dict(kept, key=content_sha256(canonical_json(kept)), before=as_json(before),
                after=as_json(after), steal_share=steal_fraction(before, after),
                throttled=was_throttled(before, after))


def _agreed(tree: SystemTree, pattern: str) -> Optional[str]:
    """The value of all files, or the distinct values joined by ``,``; None without files."""
    values = {tree.text(path) for path in tree.paths(pattern)} - {None}
    return ",".join(sorted(str(value) for value in values)) or None


def _integers(tree: SystemTree, pattern: str) -> List[int]:
    values = [tree.integer(path) for path in tree.paths(pattern)]
    return [value for value in values if value is not None]


def _first_number(text: Optional[str]) -> Optional[float]:
    try:
        return float(text.split()[0]) if text else None
    except ValueError:
        return None


def _pressure(text: Optional[str]) -> Optional[float]:
    """``some avg10=1.23 ...``: percentage of the last ten seconds in which a task waited for a
    CPU."""
    for word in (text or "").split():
        if word.startswith("avg10="):
            return _first_number(word[len("avg10="):])
    return None
