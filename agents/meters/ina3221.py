"""The INA3221 power monitors of Jetson boards, through sysfs.

    JetPack 4    /sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1/{rail_name_0,in_power0_input}
                 power in mW
    JetPack 5+   /sys/bus/i2c/devices/1-0040/hwmon/hwmon3/{in1_label,in1_input,curr1_input}
                 mV and mA; power is their product. in7 is the sum of shunts, NC an unused channel

Rails are identified by their labels, because device numbers change between boots. The chip averages
over ``samples`` conversions and updates its value every ``update_interval`` ms
(https://docs.kernel.org/hwmon/ina3221.html).
"""

import os
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Sequence

from agents.meters.base import MeterReading, PowerMeter
from agents.platform.sysfs import SystemTree
from agents.protocol import Rail

IIO = "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_[0-9]"
HWMON = "/sys/bus/i2c/devices/*/hwmon/hwmon*/in[0-9]_label"
SHUNT_SUM = "in7_label"
FREE = ("NC", "")
TOTALS = ("VDD_IN", "POM_5V_IN")
"""The input of the module, which contains its other rails. The input of a carrier (VDD_MUX of the
TX2's) feeds more than the module and is a part."""
SEPARATE_RAILS: Sequence[FrozenSet[str]] = (
    # AGX Xavier: six separate supplies (Jetson AGX Xavier design guide, power monitor).
    frozenset(("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")),
    # AGX Orin. VDDQ_VDD2_1V8AO, at the same 5 V as VIN_SYS_5V0, may be inside it: a part.
    frozenset(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")),
)
"""Separate rails of boards without a total. They do not include the carrier."""
NAN = float("nan")


class Channel(NamedTuple):
    """One rail. Its power in mW is the product of the values in ``factors``, divided by
    ``divisor``."""

    label: str
    factors: List[str]
    divisor: float
    folder: str


class Ina3221Meter(PowerMeter):
    """All labelled rails of all chips, in mW."""

    name = "ina3221"

    def __init__(self, root: str = "/") -> None:
        self._tree = SystemTree(root)
        self._channels: List[Channel] = []

    def problem(self) -> Optional[str]:
        if not self._channels:
            self._channels = self._found()
        if not self._channels:
            return ("no INA3221 with named rails under /sys/bus/i2c: only Jetson boards have one, "
                    "and a container sees it only with /sys of its host")
        if all(self._power_mw(channel) is None for channel in self._channels):
            return "{} cannot be read: see its permissions".format(self._channels[0].factors[0])
        return None

    def remedy(self) -> str:
        shut = [channel.factors[0] for channel in self._channels]
        return "sudo chmod a+r " + " ".join(shut) if shut else ""

    def readings(self) -> List[MeterReading]:
        return [MeterReading(_name(one), value, "mW", one.factors[0])
                for one, value in zip(self._channels, self.rail_values())]

    def rail_values(self) -> Sequence[float]:
        values = [self._power_mw(channel) for channel in self._channels]
        return [NAN if value is None else value for value in values]

    def rails(self) -> List[Rail]:
        roles = roles_of([channel.label for channel in self._channels])
        found = []
        for channel in self._channels:
            samples = self._tree.integer(channel.folder + "/samples")
            interval_ms = self._tree.integer(channel.folder + "/update_interval")
            role = roles[channel.label]
            found.append(Rail(
                _name(channel), "mW", channel.factors[0], "other" if role == "part" else "board",
                role, "mean of {} conversions".format(samples) if samples else "not told",
                interval_ms / 1000.0 if interval_ms else None))
        return found

    def _found(self) -> List[Channel]:
        """The rails of both layouts, the older first; of rails with equal labels only the first."""
        found: Dict[str, Channel] = {}
        for path in self._tree.paths(IIO):
            folder, number = os.path.dirname(path), path[-1]
            self._take(found, path, Channel(
                "", ["{}/in_power{}_input".format(folder, number)], 1.0, folder))
        for path in self._tree.paths(HWMON):
            folder, file = os.path.split(path)
            if file != SHUNT_SUM:
                self._take(found, path, Channel("", [
                    "{}/in{}_input".format(folder, file[2]),
                    "{}/curr{}_input".format(folder, file[2])], 1000.0, folder))
        return list(found.values())

    def _take(self, found: Dict[str, Channel], path: str, channel: Channel) -> None:
        label = self._tree.text(path) or ""
        if label not in FREE and self._tree.is_there(channel.factors[-1]):
            found.setdefault(label, channel._replace(label=label))

    def _power_mw(self, channel: Channel) -> Optional[float]:
        power = 1.0 / channel.divisor
        for path in channel.factors:
            value = self._tree.integer(path)
            if value is None:
                return None
            power *= value
        return power


def roles_of(labels: Sequence[str]) -> Dict[str, str]:
    """``total``, ``addend`` or ``part`` by label."""
    for total in TOTALS:
        if total in labels:
            return {label: "total" if label == total else "part" for label in labels}
    for separate in SEPARATE_RAILS:
        if separate.issubset(labels):
            return {label: "addend" if label in separate else "part" for label in labels}
    return {label: "part" for label in labels}


def _name(channel: Channel) -> str:
    return channel.label.replace(" ", "_") + "_mw"
