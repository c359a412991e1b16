"""Identity and state of the device. A value that the device does not report is None or absent.

``device_identity`` is constant while the agent runs; ``device_state`` is read before and after a
job. Units are in the names; temperatures in degrees Celsius, clocks in kHz, fractions 0 to 1.
"""

import os
import platform
import socket
from typing import Any, Dict, List, Optional, Sequence

from agents.platform.sysfs import SystemTree
from agents.protocol import canonical_json, content_sha256

# The zone PMIC-Die of Tegra boards always reads 100 degrees.
IGNORED_ZONES = ("PMIC-Die",)
OFFLINE_C = -255.0
POWER_MODE = "/var/lib/nvpmodel/status"


def device_identity(tree: SystemTree) -> Dict[str, Any]:
    """What identifies hardware and operating system."""
    cpu = tree.fields("/proc/cpuinfo")
    return {
        "hostname": socket.gethostname(),
        "board": tree.text("/proc/device-tree/model"),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu_model": cpu.get("model name") or cpu.get("Model") or cpu.get("Hardware") or None,
        "cores": os.cpu_count() or 1,
        "memory_bytes": tree.kibibytes("/proc/meminfo", "MemTotal"),
        "kernel": tree.text("/proc/sys/kernel/osrelease") or platform.release(),
        "python": platform.python_version(),
    }


def device_state(tree: SystemTree, ignored_zones: Sequence[str] = ()) -> Dict[str, Any]:
    """The present values of what can disturb a measurement."""
    return {
        "governor": _agreed(tree, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"),
        "clocks_khz": _integers(tree, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"),
        "power_mode": power_mode_id(tree),
        "temperatures_c": temperatures(tree, ignored_zones),
        "throttle_count": throttle_count(tree),
        "load_1min": _first_number(tree.text("/proc/loadavg")),
        "pressure_cpu_avg10": _pressure(tree.text("/proc/pressure/cpu")),
        "cpu_ticks": cpu_ticks(tree),
        "charging": charging(tree),
    }


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


def cpu_ticks(tree: SystemTree) -> Optional[Dict[str, int]]:
    """Ticks of all cores since boot (/proc/stat): total, busy, and stolen by a hypervisor."""
    lines = (tree.text("/proc/stat") or "").splitlines()
    words = lines[0].split() if lines else []
    if len(words) < 9 or words[0] != "cpu" or not all(word.isdigit() for word in words[1:9]):
        return None
    numbers = [int(word) for word in words[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = numbers
    return {"total": sum(numbers), "busy": user + nice + system + irq + softirq, "steal": steal}


def steal_fraction(before: Dict[str, Any], after: Dict[str, Any]) -> Optional[float]:
    """The fraction of CPU time that a hypervisor took between two states."""
    first, last = before.get("cpu_ticks"), after.get("cpu_ticks")
    if not first or not last or last["total"] <= first["total"]:
        return None
    return float((last["steal"] - first["steal"]) / (last["total"] - first["total"]))


def was_throttled(before: Dict[str, Any], after: Dict[str, Any]) -> bool:
    """Whether a throttle counter rose between two states."""
    first, last = before.get("throttle_count"), after.get("throttle_count")
    return first is not None and last is not None and last > first


def measurement_environment(
    who: Dict[str, Any], runtime: Dict[str, Any], before: Dict[str, Any], after: Dict[str, Any]
) -> Dict[str, Any]:
    """The environment of a measurement, as it is sent. Measurements with equal ``key`` can share a
    quiet level: it covers machine, system, runtime versions, governor and power mode."""
    kept = {"identity": who, "runtime": runtime, "governor": before.get("governor")}
    if before.get("power_mode") is not None:
        kept["power_mode"] = before["power_mode"]
    return dict(kept, key=content_sha256(canonical_json(kept)), before=before, after=after,
                steal_share=steal_fraction(before, after), throttled=was_throttled(before, after))


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
