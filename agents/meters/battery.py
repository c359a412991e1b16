"""The battery of a phone, and its ODPM rails.

    /sys/class/power_supply/battery/{current_now,voltage_now,status,online}
    /sys/bus/iio/devices/iio:device*/energy_value      t=<ms>, then CH3(T=..)[S2M_VDD_CPUCL2], <uWs>

The kernel specifies microampere and microvolt, negative while discharging, but drivers differ in
sign and scale. Both are calibrated from plausible values of a phone. With a charger connected, the
battery's current is not that of the device. ODPM (Pixel 6 and later) counts energy behind the
battery, independent of a charger. It is not documented which of its rails contain others, so they
are never summed.
"""

import os
import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

from agents.meters.base import MeterReading, PowerMeter
from agents.platform.sysfs import SystemTree
from agents.protocol import Rail

BATTERY = "/sys/class/power_supply/battery"
CHARGERS = "/sys/class/power_supply/*/online"
ODPM = "/sys/bus/iio/devices/iio:device*/energy_value"
CHANNEL = re.compile(r"^CH\d+\([^)]*\)\[([^\]]+)\],\s*(\d+)\s*$", re.MULTILINE)
CELL_V = (2.5, 9.0)
"""Volts of one or two cells in series; other values are in another unit."""
MICROAMPERE_FROM = 20000
"""A phone that is awake draws over 20 mA and under 20 A: smaller values are milliampere."""
NAN = float("nan")


class Calibration(NamedTuple):
    """Factors to volts, and to amperes that are positive while discharging."""

    volts: float
    amperes: float


def calibrate(current_now: int, voltage_now: int) -> Optional[Calibration]:
    """The calibration from one reading while discharging; None if no unit is plausible."""
    volts = next((scale for scale in (1e-6, 1e-3) if CELL_V[0] <= voltage_now * scale <= CELL_V[1]),
                 None)
    if volts is None or current_now == 0:
        return None
    amperes = 1e-6 if abs(current_now) >= MICROAMPERE_FROM else 1e-3
    return Calibration(volts, -amperes if current_now < 0 else amperes)


class BatteryMeter(PowerMeter):
    """The power out of the battery. A charger is a problem. ``tree`` may read another device, such
    as by a cable."""

    name = "battery"

    def __init__(self, root: str = "/", tree: Optional[SystemTree] = None) -> None:
        self._tree = tree or SystemTree(root)
        self._scale: Optional[Calibration] = None

    def problem(self) -> Optional[str]:
        current, volts = self._raw("current_now"), self._raw("voltage_now")
        if current is None or volts is None:
            return ("{} has no current_now and voltage_now that may be read: no battery here, or "
                    "one that only root may read".format(BATTERY))
        charger = self._charger()
        if charger is not None:
            return ("the charger is plugged in ({}), so the battery's current is not what the "
                    "device draws: unplug it and connect by network".format(charger))
        if self._scale is None:
            self._scale = calibrate(current, volts)
        if self._scale is None:
            return ("current_now = {} and voltage_now = {} fit no unit that a battery could mean"
                    .format(current, volts))
        return None

    def readings(self) -> List[MeterReading]:
        return [MeterReading("battery_w", self.rail_values()[0], "W", BATTERY)]

    def rail_values(self) -> Sequence[float]:
        """The power in W; NaN while a charger is connected."""
        current, volts = self._raw("current_now"), self._raw("voltage_now")
        if self._scale is None or current is None or volts is None or self._charger() is not None:
            return [NAN]
        return [volts * self._scale.volts * current * self._scale.amperes]

    def rails(self) -> List[Rail]:
        return [Rail("battery_w", "W", BATTERY, "board", "total", "the fuel gauge's own")]

    def _charger(self) -> Optional[str]:
        """The file or status that reports a charger; None if there is none."""
        for path in self._tree.paths(CHARGERS):
            if self._tree.integer(path):
                return path
        status = self._tree.text(BATTERY + "/status")
        return status if status in ("Charging", "Full") else None

    def _raw(self, file: str) -> Optional[int]:
        return self._tree.integer(BATTERY + "/" + file)


class OdpmMeter(PowerMeter):
    """Energy counters in uJ, one per channel of each chip."""

    name = "odpm"

    def __init__(self, root: str = "/", tree: Optional[SystemTree] = None) -> None:
        self._tree = tree or SystemTree(root)
        self._names: List[str] = []

    def problem(self) -> Optional[str]:
        if not self._names:
            self._names = [name for name, _, _ in self._channels()]
        if not self._names:
            return ("no {} with named channels: only phones with on-device power monitors have "
                    "them, Pixel 6 and later".format(ODPM))
        return None

    def readings(self) -> List[MeterReading]:
        now = {name: (value, "uJ", path) for name, value, path in self._channels()}
        return [MeterReading(name, *now.get(name, (NAN, "uJ", ODPM))) for name in self._names]

    def rails(self) -> List[Rail]:
        return [Rail(one.name, "uJ", one.source, "other", "part", "counter since the start")
                for one in self.readings()]

    def _channels(self) -> List[Tuple[str, float, str]]:
        found = []
        for path in self._tree.paths(ODPM):
            chip = os.path.basename(os.path.dirname(path)).rpartition(":")[2]
            for label, value in CHANNEL.findall(self._tree.text(path) or ""):
                found.append(("{}_{}_uj".format(chip, label), float(value), path))
        return found
