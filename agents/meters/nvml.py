"""NVIDIA GPUs by the driver's library NVML: energy counter, power, temperature, clocks.

Uses ctypes, so that no package is needed. From https://docs.nvidia.com/deploy/nvml-api: the counter
exists since Volta and counts mJ since the driver was loaded. ``nvmlDeviceGetPowerUsage`` is a mean
over one second on most chips since Ampere; power is therefore read from the fields 186 (instant)
and 185 (average) if the driver has them.

The index is NVML's (order on the PCI bus), which may differ from CUDA's.
"""

import ctypes
from typing import Any, Callable, List, NamedTuple, Optional, Sequence

from agents.meters.base import MeterReading, PowerMeter
from agents.protocol import Rail

LIBRARY = "libnvidia-ml.so.1"
POWER_AVERAGE, POWER_INSTANT = 185, 186
SM_CLOCK, MEMORY_CLOCK = 1, 2
EVENT_REASONS = {0x1: "idle", 0x2: "clocks set", 0x4: "software power cap",
                 0x8: "hardware slowdown", 0x20: "software thermal slowdown",
                 0x40: "hardware thermal slowdown", 0x80: "power brake"}
"""Bits of ``clocks_event_reasons_mask``; ``SLOWING`` has those that slow the device."""
SLOWING = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
AVERAGING = {"energy_mj": "counter since the driver was loaded",
             "power_instant_mw": "instant",
             "power_average_mw": "mean, of 1 s as documented",
             "power_usage_mw": "mean of 1 s on most chips since Ampere, instant before"}
"""The readings of power and energy, by decreasing preference."""
MEMBERS = {0: "double", 1: "uint", 2: "ulonglong", 3: "ulonglong"}
"""``nvmlValueType_t`` -> the member of the union."""
NAN = float("nan")


class FieldValue(ctypes.Structure):
    """``nvmlFieldValue_t``, with those members of its union that power fields use."""

    class _Value(ctypes.Union):
        _fields_ = [("double", ctypes.c_double), ("uint", ctypes.c_uint),
                    ("ulonglong", ctypes.c_ulonglong)]

    _fields_ = [("field_id", ctypes.c_uint), ("scope_id", ctypes.c_uint),
                ("timestamp_us", ctypes.c_longlong), ("latency_us", ctypes.c_longlong),
                ("value_type", ctypes.c_int), ("status", ctypes.c_int), ("value", _Value)]


class Utilisation(ctypes.Structure):
    """``nvmlUtilization_t``, percent of the last sample period."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Probe(NamedTuple):
    """One reading and the function that reads it, which returns None if that fails."""

    name: str
    unit: str
    source: str
    get: Callable[[], Optional[float]]


def load_library(name: str) -> Any:
    """Loads a shared library. Raises OSError if it is not installed."""
    return ctypes.CDLL(name)


def reasons_in_words(mask: int) -> List[str]:
    return [words for bit, words in sorted(EVENT_REASONS.items()) if mask & bit]


class NvmlMeter(PowerMeter):
    """The readings that one GPU offers."""

    name = "nvml"

    def __init__(self, load: Callable[[str], Any] = load_library, index: int = 0) -> None:
        self._load = load
        self._index = index
        self._library: Any = None
        self._device = ctypes.c_void_p()
        self._probes: List[Probe] = []

    def problem(self) -> Optional[str]:
        return None if self._library is not None else self._open()

    def readings(self) -> List[MeterReading]:
        return [MeterReading(one.name, _or_nan(one.get()), one.unit, one.source)
                for one in self._probes]

    def rails(self) -> List[Rail]:
        """The preferred rail is an addend, the others measure the same and are parts."""
        return [Rail(one.name, one.unit, one.source, "gpu", "part" if place else "addend",
                     AVERAGING[self._short(one)]) for place, one in enumerate(self._powers())]

    def rail_values(self) -> Sequence[float]:
        return [_or_nan(one.get()) for one in self._powers()]

    def gpu_name(self) -> str:
        """Names of the GPU and its driver. Called only if ``problem`` is None."""
        name, driver = ctypes.create_string_buffer(96), ctypes.create_string_buffer(80)
        self._call("nvmlDeviceGetName", self._device, name, ctypes.c_uint(96))
        self._call("nvmlSystemGetDriverVersion", driver, ctypes.c_uint(80))
        return "{}, driver {}".format(name.value.decode("utf-8", "replace") or "NVIDIA GPU",
                                      driver.value.decode("utf-8", "replace") or "unknown")

    def close(self) -> None:
        if self._library is not None:
            self._call("nvmlShutdown")
            self._library, self._probes = None, []

    def _open(self) -> Optional[str]:
        """Opens the library and finds the probes; returns the problem, or None."""
        try:
            self._library = self._load(LIBRARY)
        except OSError as error:
            return ("{} cannot be loaded ({}): there is no NVIDIA driver here, or a container "
                    "without it (docker run --gpus all)".format(LIBRARY, error))
        count = ctypes.c_uint()
        status = (self._call("nvmlInit_v2")
                  or self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
                  or self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(self._index),
                                ctypes.byref(self._device)))
        trouble = None
        if status:
            trouble = "NVML says {!r} for GPU {} of {}: see that nvidia-smi works here".format(
                self._error(status), self._index, count.value)
        else:
            self._probes = [one for one in self._offered() if one.get() is not None]
            if not self._powers():
                trouble = ("GPU {} reports neither power nor energy through NVML, like older "
                           "GeForce cards and GPUs of virtual machines".format(self._index))
        if trouble is not None:
            self._library, self._probes = None, []
        return trouble

    def _powers(self) -> List[Probe]:
        return [one for one in self._probes if self._short(one) in AVERAGING]

    def _prefix(self) -> str:
        return "gpu{}_".format(self._index)

    def _short(self, probe: Probe) -> str:
        return probe.name[len(self._prefix()):]

    def _offered(self) -> List[Probe]:
        def probe(name: str, unit: str, source: str, get: Callable[[], Optional[float]]) -> Probe:
            return Probe(self._prefix() + name, unit, source, get)

        return [
            probe("energy_mj", "mJ", "nvmlDeviceGetTotalEnergyConsumption", lambda: self._number(
                "nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong())),
            probe("power_instant_mw", "mW", "nvmlDeviceGetFieldValues 186",
                  lambda: self._field(POWER_INSTANT)),
            probe("power_average_mw", "mW", "nvmlDeviceGetFieldValues 185",
                  lambda: self._field(POWER_AVERAGE)),
            probe("power_usage_mw", "mW", "nvmlDeviceGetPowerUsage", lambda: self._number(
                "nvmlDeviceGetPowerUsage", ctypes.c_uint())),
            probe("temperature_c", "C", "nvmlDeviceGetTemperature", lambda: self._number(
                "nvmlDeviceGetTemperature", ctypes.c_uint(), ctypes.c_int(0))),
            probe("sm_clock_mhz", "MHz", "nvmlDeviceGetClockInfo", lambda: self._number(
                "nvmlDeviceGetClockInfo", ctypes.c_uint(), ctypes.c_int(SM_CLOCK))),
            probe("memory_clock_mhz", "MHz", "nvmlDeviceGetClockInfo", lambda: self._number(
                "nvmlDeviceGetClockInfo", ctypes.c_uint(), ctypes.c_int(MEMORY_CLOCK))),
            probe("clocks_event_reasons_mask", "mask", "nvmlDeviceGetCurrentClocksEventReasons",
                  self._reasons),
            probe("utilisation_percent", "percent", "nvmlDeviceGetUtilizationRates",
                  self._utilisation),
        ]

    def _call(self, function: str, *arguments: Any) -> int:
        """NVML's status: 0 for success, -1 if the driver lacks the function."""
        try:
            return int(getattr(self._library, function)(*arguments))
        except AttributeError:
            return -1

    def _number(self, function: str, result: Any, *arguments: Any) -> Optional[float]:
        status = self._call(function, self._device, *arguments, ctypes.byref(result))
        return None if status else float(result.value)

    def _field(self, field_id: int) -> Optional[float]:
        values = (FieldValue * 1)()
        values[0].field_id = field_id
        status = self._call("nvmlDeviceGetFieldValues", self._device, ctypes.c_int(1), values)
        if status or values[0].status:
            return None
        return float(getattr(values[0].value, MEMBERS.get(values[0].value_type, "uint")))

    def _reasons(self) -> Optional[float]:
        mask = ctypes.c_ulonglong()
        found = self._number("nvmlDeviceGetCurrentClocksEventReasons", mask)
        if found is None:  # its name before driver 535
            found = self._number("nvmlDeviceGetCurrentClocksThrottleReasons", mask)
        return found

    def _utilisation(self) -> Optional[float]:
        found = Utilisation()
        status = self._call("nvmlDeviceGetUtilizationRates", self._device, ctypes.byref(found))
        return None if status else float(found.gpu)

    def _error(self, status: int) -> str:
        if status == -1:
            return "function not found"
        try:
            describe: Any = self._library.nvmlErrorString
            describe.restype = ctypes.c_char_p
            return str((describe(ctypes.c_int(status)) or b"").decode("utf-8", "replace"))
        except AttributeError:
            return "error {}".format(status)


def _or_nan(value: Optional[float]) -> float:
    return NAN if value is None else value
