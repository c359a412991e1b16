"""RAPL: energy counters of CPU packages and their memory, in the powercap tree.

    /sys/class/powercap/intel-rapl:N/{name,energy_uj,max_energy_range_uj}      package-0, psys
    /sys/class/powercap/intel-rapl:N:M/...                                     core, uncore, dram

AMD processors use the same names. The counters wrap at ``max_energy_range_uj``, within minutes on a
server. Since November 2020 only root may read them (CVE-2020-8694).
"""

import os
from typing import List, NamedTuple, Optional, Sequence

from agents.meters.base import MeterReading, PowerMeter
from agents.platform.sysfs import SystemTree
from agents.protocol import Rail

ZONES = "/sys/class/powercap/intel-rapl:*"
AVERAGING = "counter, renewed about every ms"
NAN = float("nan")


class Zone(NamedTuple):
    name: str
    path: str
    covers: str
    role: str


class RaplMeter(PowerMeter):
    """Packages and their memory are addends; cores are parts of a package. The extent of psys
    differs between machines, so it is a part."""

    name = "rapl"

    def __init__(self, root: str = "/") -> None:
        self._tree = SystemTree(root)
        self._zones: List[Zone] = []

    def problem(self) -> Optional[str]:
        if not self._zones:
            self._zones = self._found()
        if not self._zones:
            return ("no RAPL under /sys/class/powercap: not an Intel or AMD processor of the last "
                    "years, or a virtual machine, which cannot read it")
        shut = [zone.path for zone in self._zones if self._tree.integer(zone.path) is None]
        if shut:
            return ("{} may be read by root only (CVE-2020-8694): allow it with {}".format(
                shut[0], self.remedy()))
        return None

    def remedy(self) -> str:
        return ("sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" if self._zones else "")

    def readings(self) -> List[MeterReading]:
        return [MeterReading(zone.name, value, "uJ", zone.path)
                for zone, value in zip(self._zones, self.rail_values())]

    def rail_values(self) -> Sequence[float]:
        values = [self._tree.integer(zone.path) for zone in self._zones]
        return [NAN if value is None else float(value) for value in values]

    def rails(self) -> List[Rail]:
        found = []
        for zone in self._zones:
            range_uj = self._tree.integer(os.path.dirname(zone.path) + "/max_energy_range_uj")
            found.append(Rail(zone.name, "uJ", zone.path, zone.covers, zone.role, AVERAGING, None,
                              float(range_uj) if range_uj else None))
        return found

    def _found(self) -> List[Zone]:
        zones = []
        for folder in self._tree.paths(ZONES):
            parent = folder.count(":") > 1 and folder.rpartition(":")[0]
            own = self._tree.text(folder + "/name") or os.path.basename(folder)
            name = own if not parent else "{}_{}".format(
                self._tree.text(parent + "/name") or os.path.basename(parent), own)
            covers, role = "other", "part"
            if own.startswith("package"):
                covers, role = "cpu", "addend"
            elif own == "dram":
                covers, role = "memory", "addend"
            elif own in ("core", "uncore"):
                covers = "cpu"
            zones.append(Zone(name + "_uj", folder + "/energy_uj", covers, role))
        return zones
